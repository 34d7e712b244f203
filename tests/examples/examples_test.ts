import assert from "node:assert/strict";
import { application } from "../../examples/deploy.ts";
import { answer } from "../../examples/edge.ts";
import { connect } from "../../mod.ts";
import { wakeUp } from "../../src/edge/mod.ts";
import { partner } from "../handlers/_support/partner.ts";
import { spawnDeno, test } from "../harness/mod.ts";
import { run } from "./_support/run.ts";

test(
  "the example live.ts replays, then reads live, then ends",
  { schema: false },
  async ({ url }) => {
    assert.deepEqual(await run("live", "example", url), ["replayed 1", "live 2", "live 3"]);
  },
);

test(
  "the example typed.ts checks, upgrades and decodes what is published",
  { schema: false },
  async ({ url }) => {
    assert.deepEqual(await run("typed", "example", url), [
      "BAD_PAYLOAD",
      "order-1 20 CHF 2026 true",
      "order-1 refunded order-1",
      "order-2 5 EUR 2026 false",
      "3 handled",
    ]);
  },
);

test(
  "the example transaction.ts publishes only what committed",
  { schema: false },
  async ({ url }) => {
    assert.deepEqual(await run("transaction", "example", url), [
      'order-1 { id: 1 } { by: "example" }',
      "1 handled",
    ]);
  },
);

test(
  "the example retry.ts tries again what fails, apart from all else, and gives up what is hopeless",
  { schema: false },
  async ({ url }) => {
    const lines = await run("retry", "example", url);
    assert.equal(lines.pop(), "3 handled");
    // What is tried again comes when it is due: how the invoices follow each other is not promised.
    const of = (invoice: number) => lines.filter((line) => line.startsWith(`invoice ${invoice}`));
    assert.deepEqual([1, 2, 3, 4, 5].flatMap(of), [
      "invoice 1 printed, attempt 1",
      "invoice 2, attempt 1: there is no such customer",
      "invoice 2 is a dead letter",
      "invoice 3, attempt 1: the address is odd",
      "invoice 3, attempt 2: the address is odd",
      "invoice 3, attempt 3: the address is odd",
      "invoice 3 is a dead letter",
      "invoice 4, attempt 1: the printer warms up",
      "invoice 4 printed, attempt 2",
      "invoice 5 printed, attempt 1",
    ]);
    assert.equal(lines.length, 10);
  },
);

test(
  "the example fair.ts lets no tenant wait for the end of another one's burst",
  { schema: false },
  async ({ url }) => {
    assert.deepEqual(await run("fair", "example", url), [
      "1005 sent",
      "small was done within the first 20",
      "tiny was done within the first 20",
      "big was done last",
    ]);
  },
);

test(
  "the example exactly_once.ts writes what it handles once, although a handler fails after it wrote",
  { schema: false },
  async ({ url }) => {
    assert.deepEqual(await run("exactly_once", "example", url), [
      "payment 1 written, attempt 1",
      "payment 2 written, attempt 1",
      "rolled back: the light went out",
      "payment 3 written, attempt 1",
      "payment 2 written, attempt 2",
      "3 handled",
      "30 euros: four inserts, three of them committed",
    ]);
  },
);

test(
  "the example batch.ts sends again to the one who could not be reached only",
  { schema: false },
  async ({ url }) => {
    assert.deepEqual(await run("batch", "example", url), [
      "sent to ada, bob, cy",
      "bob: mailbox full",
      "sent to dee, eve",
      "sent to bob",
      "5 handled",
    ]);
  },
);

test(
  "the example dead_letters.ts lists, retries and discards what was given up",
  { schema: false },
  async ({ url }) => {
    assert.deepEqual(await run("dead_letters", "example", url), [
      "printed: letter",
      'dead letter: { what: "poster" } after 2 attempts: out of paper',
      'dead letter: { what: "banknote" } after 2 attempts: that is against the law',
      "1 will be retried",
      "printed: poster",
      "1 discarded",
    ]);
  },
);

test(
  "the example partitions.ts has two workers handle each customer's orders in order, once",
  { schema: false },
  async ({ url }) => {
    const lines = (await run("partitions", "example", url)).map((line) => line.split(/:? /));
    assert.equal(lines.length, 21);
    assert.deepEqual(new Set(lines.map(([worker]) => worker)), new Set(["first", "second"]));
    for (const customer of new Set(lines.map(([, customer]) => customer))) {
      const its = lines.filter((line) => line[1] === customer);
      assert.deepEqual(its.map(([, , step]) => step), ["ordered", "paid", "sent"]);
    }
  },
);

test(
  "the example later.ts delivers what was delayed when it is due, and a duplicate once",
  { schema: false },
  async ({ url }) => {
    assert.deepEqual(await run("later", "example", url), ["once", "a second later"]);
  },
);

test("the example stream.ts reads while it publishes", { schema: false }, async ({ url }) => {
  assert.deepEqual(await run("stream", "example", url), ["20", "21", "22", "23"]);
});

test("the example pglite.ts runs without a server", { schema: false }, async ({ url }) => {
  assert.deepEqual(await run("pglite", "pglite", url), [
    '1 { text: "hello" }',
    "1 handled",
  ]);
});

test(
  "the example queue.ts delivers after a delay, and finds what was not delivered",
  { schema: false },
  async ({ url }) => {
    assert.deepEqual(await run("queue", "example", url), [
      "Dear alovelace: You've got mail!",
      "not delivered to user-0",
    ]);
  },
);

test(
  "the example edge.ts installs, publishes and drains by requests",
  { schema: false },
  async ({ url }) => {
    const secret = "a-secret-of-the-test";
    const post = async (path: string, body?: string) => {
      const request = new Request(`http://localhost${path}`, {
        method: "POST",
        body: body ?? null,
        headers: { authorization: `Bearer ${secret}` },
      });
      const { signal } = new AbortController();
      const surroundings = { url, secret, signal };
      return await (await answer(request, surroundings)).json();
    };
    const drained = async () => {
      const { consumers } = await post("/drain");
      const { handled, reason } = consumers["example-edge"];
      return [handled, reason];
    };
    assert.equal((await post("/orders", '{"id":41}')).code, "NO_SCHEMA");
    assert.equal((await post("/install")).changed, true);
    assert.equal((await post("/orders", '{"id":42}')).id, 1);
    assert.deepEqual(await drained(), [1, "done"]);
    assert.deepEqual(await drained(), [0, "done"]);
  },
);

test("the example deploy.ts is woken, drains, and streams what it did", async (context) => {
  const db = context.use(await connect(context.url, { poolSize: 2, listen: false }));
  const [drainSecret, wakeSecret] = [
    "a-secret-of-the-test",
    `whsec_${btoa("a secret of at least 24 bytes")}`,
  ];
  const { signal } = new AbortController();
  const app = application({ db, drainSecret, wakeSecret, signal });
  const { origin } = partner(
    context,
    ({ path, headers, body }) =>
      app(new Request(`http://localhost${path}`, { method: "POST", headers, body })),
  );
  const bills = async () => {
    return await (await app(new Request("http://localhost/bills?offset=-1"))).json();
  };
  await (await fetch(`${origin}/orders`, { method: "POST", body: '{"id":42}' })).body!.cancel();
  assert.deepEqual(await bills(), []);
  await wakeUp(`${origin}/wake`, { secret: wakeSecret });
  assert.deepEqual(await bills(), [{ order: 42 }]);
  // The scheduler finds what no wake has told of.
  await (await fetch(`${origin}/orders`, { method: "POST", body: '{"id":43}' })).body!.cancel();
  const headers = { authorization: `Bearer ${drainSecret}` };
  const drained = await fetch(`${origin}/drain`, { method: "POST", headers });
  assert.equal((await drained.json()).handled, 1);
  assert.deepEqual(await bills(), [{ order: 42 }, { order: 43 }]);
});

test(
  "the example browser.ts serves a page, takes what is said, and streams it",
  { schema: false },
  async ({ url, use }) => {
    const child = use(spawnDeno(["examples/browser.ts"], {
      permissions: ["-P=example"],
      env: { DATABASE_URL: url },
    }));
    const [address] = await child.line(/http:\/\/127\.0\.0\.1:\d+/);
    assert.match(await (await fetch(address)).text(), /new EventSource\("\/live\?offset=-1"\)/);
    assert.equal((await fetch(`${address}/say`, { method: "POST", body: "hello" })).status, 204);
    assert.deepEqual(await (await fetch(`${address}/live`)).json(), ["hello"]);
  },
);
