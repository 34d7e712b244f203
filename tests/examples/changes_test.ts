/** The usual uses of a table's changes. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { scratch, test } from "../harness/mod.ts";
import { run } from "./_support/run.ts";

test(
  "the example cache.ts forgets what has changed, and only that, also in a second run",
  { schema: false },
  async ({ url }) => {
    for (let runs = 0; runs < 2; runs++) {
      const lines = await run("cache", "example", url);
      assert.deepEqual(lines.slice(0, 4), [
        "product 1 is read",
        "product 2 is read",
        "300 120",
        "300 120",
      ]);
      // A second run may be told of the first one's change again, and reads once more.
      assert.deepEqual(lines.slice(-3), [
        "product 1 is dropped from the cache",
        "product 1 is read",
        "350 120",
      ]);
      assert(!lines.slice(4).includes("product 2 is read"), lines.join("\n"));
    }
  },
);

test(
  "the example webhook.ts posts each change until it is taken, once by its header, and drops what is refused",
  { schema: false },
  async ({ url }) => {
    const lines = await run("webhook", "example", url);
    const of = (id: number) => lines.filter((line) => line.startsWith(`${id} `));
    assert.equal(lines.length, 7);
    assert.deepEqual(of(1), [
      "1 failed, attempt 1: 503: we are closed",
      "1 is accepted: packed",
      "1 failed, attempt 2: 500",
      "1 was received before",
    ]);
    assert.deepEqual(of(2).slice(0, 1), ["2 is accepted: packed"]);
    assert.deepEqual(of(3), ["3 failed, attempt 1: 422: lost is not a known state"]);
    assert.equal(lines.at(-1), "2 handled");
  },
);

test(
  "the example analytics.ts keeps the sums that the table has, although a handler fails after it wrote",
  { schema: false },
  async ({ url, sql }) => {
    const lines = [
      "rolled back: the light went out",
      "8 changes counted",
      "de 1 30",
      "fr 1 20",
      "0 countries differ from the table",
    ];
    assert.deepEqual(await run("analytics", "example", url), lines);
    assert.deepEqual(
      await sql("select country, sales, euros from example_revenue where sales > 0 order by 1"),
      await sql(
        `select country, count(*)::int as sales, sum(euros)::int as euros
        from example_sales group by country order by 1`,
      ),
    );
    assert.deepEqual(await run("analytics", "example", url), lines);
  },
);

test(
  "the example audit.ts writes who changed what, by the request or by the session, and no passwords",
  { schema: false },
  async ({ url, sql }) => {
    const [{ role }] = await sql("select current_user as role") as [{ role: string }];
    assert.deepEqual(await run("audit", "example", url), [
      "3 changes",
      'ada: INSERT 1 null {"id":1,"plan":"free","email":"bob@example.com"}',
      'ada: UPDATE 1 {"plan":"free"} {"plan":"paid"}',
      `nightly job (${role}): DELETE 1 {"id":1,"plan":"paid","email":"bob@example.com"} null`,
    ]);
    const rows = await sql("select actor, transaction from example_audit order by change");
    assert.deepEqual(rows.map(({ actor }) => actor), ["ada", "ada", `nightly job (${role})`]);
    assert.equal(new Set(rows.map(({ transaction }) => transaction)).size, 2);
    assert.deepEqual(
      await sql("select from hark.log l where l::text like '%secret%'"),
      [],
      "what is excluded is nowhere in the log",
    );
  },
);

test(
  "the example search.ts finds the rows that were there, then what has changed",
  { schema: false },
  async ({ url }) => {
    for (let runs = 0; runs < 2; runs++) {
      assert.deepEqual(await run("search", "example", url), [
        "3 rows existed before",
        "3 handled",
        "night: Bats, Owls",
        "3 handled",
        "night: Moths, Owls",
        "morning: nothing",
      ]);
    }
  },
);

test(
  "the example mail.ts sends a mail for each change of the status, and for nothing else",
  { schema: false },
  async ({ url }) => {
    await using folder = await scratch();
    const outbox = join(folder.path, "outbox.txt");
    const lines = await run("mail", "example", url, {
      more: [`--allow-write=${outbox}`],
      args: [outbox],
    });
    assert.deepEqual(lines, [
      "to ada@example.com: parcel 1 is sent",
      "to bob@example.com: parcel 2 is sent",
      "to ada@example.com: parcel 1 is delivered",
      "3 mails",
    ]);
    const mails = (await Deno.readTextFile(outbox)).split(/(?=^Message-ID: )/m);
    assert.equal(mails.length, 3);
    assert.equal(new Set(mails.map((mail) => mail.split("\n", 1)[0])).size, 3);
    assert.match(
      mails[2]!,
      /^Message-ID: <parcel-\d+@shop\.example>\nTo: ada@example\.com\nSubject: Parcel 1 is delivered\n\nIt was sent before\.\n/,
    );
  },
);
