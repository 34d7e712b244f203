/** How readers that sleep go on sleeping: their heartbeat renews their rows. */

import assert from "node:assert/strict";
import { connect } from "../../mod.ts";
import { test, until } from "../harness/mod.ts";
import { asleep } from "../waking/_support/sleeping.ts";
import { NEVER_POLL, numbers, publish, Reading, Running } from "./_support/running.ts";

test("heartbeats keep consumers and subscriptions asleep, without a statement more", {
  timeout: 120_000,
}, async (context) => {
  const db = context.use(await connect(context.url));
  const consumers = numbers(0, 2).map((n) =>
    context.use(new Running(db, { id: `c${n}`, pollInterval: NEVER_POLL }))
  );
  const reading = context.use(new Reading(db, "c", { pollInterval: NEVER_POLL }));
  await asleep(context, 4);
  const times = async () =>
    (await context.sql("select until::text as until from hark.sleepers order by sleeper"))
      .map(({ until }) => until);
  await context.sql(`
    create table asked (statement text);
    create function note() returns trigger language plpgsql security definer as
      $$ begin insert into public.asked values (current_query()); return null; end $$;
    create trigger renewed after update on hark.sleepers for each statement execute function note()`);
  const before = await times();
  // A row is renewed half a minute to a minute after it was stored.
  await until(async () => (await times()).every((time, n) => time !== before[n]), {
    deadline: 90_000,
    what: "all to be renewed",
  });
  const asked = (await context.sql("select statement from asked")).map(({ statement }) =>
    statement
  );
  assert(asked.every((statement) => /hark\.heartbeat/.test(statement)), asked.join("\n"));
  await publish(context, 1, 1);
  for (const one of consumers) await one.atLeast(1);
  await reading.inbox.atLeast(1);
});
