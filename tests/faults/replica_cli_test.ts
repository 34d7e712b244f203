/** Commands that read from a standby, and what the doctor says of one. */

import assert from "node:assert/strict";
import { connect, doctor } from "../../mod.ts";
import { output, ran, refused } from "../cli/_support/hark.ts";
import { ownServer, until } from "../harness/mod.ts";
import { publish } from "./_support/running.ts";
import { standbyOf } from "./_support/standby.ts";

Deno.test("hark tail and hark log read from the replica that a flag or HARK_REPLICA_URL names", async () => {
  await using primary = await ownServer({
    settings: { shared_preload_libraries: "pg_stat_statements" },
  });
  await primary.sql("create extension pg_stat_statements");
  await using standby = await standbyOf(primary);
  await publish(primary, 1, 3);
  await standby.caughtUp(primary);
  const { url } = primary;
  const all = ["tail", "c", "--no-follow"];
  const lines = (text: string) => text.trim().split("\n").length;
  assert.equal(lines(await output([...all, "--replica", standby.url], { url })), 3);
  const there = { url, variables: { HARK_REPLICA_URL: standby.url } };
  assert.equal(lines(await output(all, there)), 3);
  const listed = await output(["log", "list", "--replica", standby.url], { url });
  assert.match(listed, /^ *3 .*\n *2 .*\n *1 /m);
  assert.match(await output(["log", "show", "2"], there), /\bc\b/);
  assert.match(await output(["log", "channels", "--replica", standby.url]), /^c\b/m);
  const [{ calls }] = await primary.sql(
    `select coalesce(sum(calls), 0)::int as calls from pg_stat_statements
      where query ~ 'hark\\.(page|notifications?|whereabouts|log_channels)\\('`,
  );
  assert.equal(calls, 0, "nothing was read on the primary");
  await refused([...all, "--replica", "postgres://127.0.0.1:1/x"], 3, /the replica .*:1\/x/, {
    url,
  });
});

Deno.test("the doctor says if a replica lags, cancels reads, or is none", async () => {
  await using primary = await ownServer();
  await using standby = await standbyOf(primary, undefined, {
    hot_standby_feedback: "off",
    max_standby_streaming_delay: "0",
  });
  await using db = await connect(primary.url, { replica: standby.url });
  const found = async () =>
    (await doctor(db)).filter(({ code }) => code === "replica").map(({ problem }) => problem);
  assert.deepEqual(await found(), []);
  await primary.sql("select hark.notify('c') from generate_series(1, 2000)");
  await standby.caughtUp(primary);
  // A statement of the standby that needs rows which the primary removes.
  await using reader = await connect(standby.url, { listen: false });
  const reading = reader.query(
    "select count(*) from hark.log, lateral (select pg_sleep(0.01 + 0 * id)) s",
  ).then(() => "read", (error) => error.message as string);
  await until(async () =>
    (await standby.sql(
      "select count(*)::int as n from pg_stat_activity where query ~ '^select count.*pg_sleep' and state = 'active'",
    ))[0].n > 0
  );
  await primary.sql("delete from hark.log where id < 1000");
  await primary.sql("vacuum hark.log");
  assert.match(await reading, /conflict with recovery/);
  await until(async () => (await found()).length === 1);
  assert.match((await found())[0]!, /has cancelled 1 statements .* hot_standby_feedback is off/);
  await standby.sql("select pg_wal_replay_pause()");
  await publish(primary, 1, 1);
  await until(
    async () => (await found()).some((one) => /is .* behind: so are its readers/.test(one)),
    {
      deadline: 40_000,
    },
  );
  const ended = await ran(["doctor", "--replica", standby.url], { url: primary.url });
  assert.match(ended.stdout, /warning \(replica\): the replica .* is .* behind/);
  await standby.sql("select pg_wal_replay_resume()");
  await standby.promote();
  await until(async () => (await found()).some((one) => /is no standby/.test(one)));
  await standby.stop();
  await until(async () => (await found()).some((one) => /cannot be looked at/.test(one)));
});
