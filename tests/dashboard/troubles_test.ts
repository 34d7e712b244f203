import assert from "node:assert/strict";
import { connect, Consumer, notify, pause, schedule, setRetention, watch } from "../../mod.ts";
import { test, until } from "../harness/mod.ts";
import { role } from "../schema/_support/role.ts";
import { visits } from "./_support/visit.ts";

test(
  "each trouble is on the overview within 5 s, with what to do",
  { timeout: 180_000 },
  async (context) => {
    const { url, use, sql, t } = context;
    const db = use(await connect(url, { poolSize: 8 }));
    const polling = use(await connect(url, { listen: false }));
    const { handler } = visits(db, { authorize: () => ({ name: "ada", role: "operate" }) });
    const response = await handler(new Request("http://hark.test/live?page=/"));
    let shown = "";
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    const read = (async () => {
      let kept = "";
      for (;;) {
        const { value: text, done } = await reader.read();
        if (done) return;
        const events = `${kept}${text}`.split("\n\n");
        kept = events.pop()!;
        for (const event of events) {
          const data = /^event: look\ndata: (.*)$/.exec(event)?.[1];
          if (data === undefined) continue;
          const { regions } = JSON.parse(data) as { regions: [string, string][] };
          shown = new Map(regions).get("state") ?? shown;
        }
      }
    })();
    const { name: weak } = await role(context);
    const troubles: [
      name: string,
      plant: () => unknown,
      problem: RegExp,
      remedy: RegExp,
    ][] = [
      [
        "a paused consumer",
        async () => {
          await sql("select hark.register('audit', array['orders'], 'beginning')");
          await notify(db, "orders", {});
          await pause(db, "audit");
        },
        /audit&quot; was paused/,
        /hark resume audit/,
      ],
      [
        "no worker",
        async () => {
          await sql("select hark.register('export', array['orders'], 'beginning')");
        },
        /No worker serves &quot;export/,
        /Start a worker/,
      ],
      [
        "a failing handler",
        () => {
          const consumer = new Consumer(db, {
            id: "mail",
            channels: "orders",
            from: "beginning",
            retry: { initial: "1h", maximum: "1h" },
            handle() {
              throw new Error("smtp is down");
            },
          });
          const run = consumer.run();
          context.use({
            async [Symbol.asyncDispose]() {
              await consumer.stop();
              await run;
            },
          });
        },
        /mail&quot; fails on 1 notification: smtp is down/,
        /tried again by itself/,
      ],
      [
        "dead letters",
        async () => {
          await new Consumer(db, {
            id: "partner",
            channels: "orders",
            from: "beginning",
            maxAttempts: 1,
            handle() {
              throw new Error("no");
            },
          }).drain();
        },
        /^(?!.*given up).*&quot;partner&quot; has 1 dead letter/s,
        /hark dead list partner/,
      ],
      [
        "a partition that is held up",
        () => {
          const consumer = new Consumer(db, {
            id: "ledger",
            channels: "orders",
            from: "beginning",
            onFailure: "block",
            retry: { initial: "1h", maximum: "1h" },
            handle() {
              throw new Error("locked");
            },
          });
          const run = consumer.run();
          context.use({
            async [Symbol.asyncDispose]() {
              await consumer.stop();
              await run;
            },
          });
        },
        /Partition 0 of &quot;ledger&quot; is held up/,
        /hark discard ledger/,
      ],
      [
        "a worker that only polls",
        async () => {
          const consumer = new Consumer(polling, { id: "slow", channels: "none", handle() {} });
          const run = consumer.run();
          context.use({
            async [Symbol.asyncDispose]() {
              await consumer.stop();
              await run;
            },
          });
          await until(async () =>
            (await sql(
              "update hark.workers set joined_at = now() - interval '2 minutes' where consumer = 'slow' returning 1",
            )).length === 1
          );
        },
        /of &quot;slow&quot; is not woken/,
        /directly to the server/,
      ],
      [
        "a watch that has drifted",
        async () => {
          await sql("create table customers (id int primary key, city text)");
          await watch(db, "customers");
          await sql("alter table customers disable trigger all");
        },
        /watch &quot;watch&quot; of public\.customers has drifted/,
        /hark watch repair/,
      ],
      [
        "a schedule that publishes nothing",
        async () => {
          await schedule(db, "broken", "0 6 * * *", { channel: "reports" });
          await sql("update hark.schedules set problem = 'the time zone is gone', next_at = null");
        },
        /schedule &quot;broken&quot; publishes nothing/,
        /hark schedule list/,
      ],
      [
        "retention that no worker applies",
        async () => {
          await setRetention(db, "30d");
          await sql(
            "update hark.retention set set_at = now() - interval '1 day', applied_at = null, next_at = now() + interval '50 seconds'",
          );
        },
        /no worker applies the retention/i,
        /hark cleanup from cron/,
      ],
      [
        "autovacuum off for a table",
        async () => {
          await sql("alter table hark.waiting set (autovacuum_enabled = false)");
        },
        /Autovacuum is off for hark\.waiting/,
        /reset \(autovacuum_enabled\)/,
      ],
      [
        "a role that lacks a function",
        async () => {
          await sql("select hark.grant_operate($1)", [weak]);
          await sql(`revoke execute on function hark.pause(text) from ${weak}`);
        },
        /lacks pause/,
        /grant_operate/,
      ],
      [
        "functions of another program",
        async () => {
          await sql("update hark.schema_version set functions = 'other'");
        },
        /functions are not those of this program/,
        /hark init/,
      ],
    ];
    await until(() => shown !== "", { deadline: 10_000, what: "the first look" });
    for (const [name, plant, problem, remedy] of troubles) {
      await t.step(name, async () => {
        assert.doesNotMatch(shown, problem);
        await plant();
        await until(() => problem.test(shown) && remedy.test(shown), {
          deadline: 5000,
          what: `the overview to tell of ${name}: ${shown}`,
        });
      });
    }
    await reader.cancel();
    await read;
  },
);
