/** Stopping a relay or an inbox at any moment, and what `ready` says. */

import assert from "node:assert/strict";
import { connect, notify } from "../../mod.ts";
import { inbox } from "../../src/inbox/mod.ts";
import { type OpenSink, relay } from "../../src/relay/mod.ts";
import { deferred, test, type TestContext, until, within } from "../harness/mod.ts";

/** A relay whose target opens and closes as a test says, and what has happened to it. */
async function setUp(
  { url, use }: TestContext,
  hold: { readonly open?: () => Promise<void>; readonly close?: () => Promise<void> },
) {
  const db = use(await connect(url));
  const happened: string[] = [];
  const sink: OpenSink = {
    target: "a test",
    warnings: [],
    end: 0,
    publish: () => Promise.resolve({ place: happened.push("published"), duplicate: false }),
    describe: () => "a test",
    recover: () => Promise.resolve(new Set<string>()),
    publishedBehind: () => Promise.resolve({ ids: new Set<string>(), end: 0 }),
    async [Symbol.asyncDispose]() {
      await hold.close?.();
      happened.push("closed");
    },
  };
  const out = relay(db, {
    id: "out",
    channels: "orders",
    to: {
      kind: "test",
      async open() {
        happened.push("opening");
        await hold.open?.();
        return sink;
      },
    },
  });
  return { db, out, happened };
}

test("a relay that is stopped while its target is opened ends at once, and publishes nothing", async (context) => {
  const gate = deferred();
  const { db, out, happened } = await setUp(context, { open: () => gate.wait() });
  await notify(db, "orders", 1);
  const ready = out.ready;
  const running = out.run();
  await until(() => happened.length === 1);
  await within(out.stop(), { what: "the stop" });
  await within(running, { what: "the run" });
  await assert.rejects(within(ready), /relay "out" was stopped before it was ready/);
  const aborting = new AbortController();
  const draining = out.drain({ signal: aborting.signal });
  await until(() => happened.length === 2);
  aborting.abort();
  assert.equal(await within(draining, { what: "the drain" }), 0);
  gate.resolve();
  await until(() => happened.length === 4, { what: "what opened too late to be closed" });
  assert.deepEqual(happened, ["opening", "opening", "closed", "closed"]);
  assert.equal(await out.drain(), 1, "and another run goes on");
});

test("the promise ready of a relay rejects if its target cannot be opened", async (context) => {
  let isThere = false;
  const open = () => isThere ? Promise.resolve() : Promise.reject(new Error("there is no target"));
  const { out } = await setUp(context, { open });
  const ready = out.ready;
  await assert.rejects(out.run(), /there is no target/);
  await assert.rejects(within(ready), /there is no target/);
  isThere = true;
  const running = out.run();
  await within(out.ready, { what: "the next run to be ready" });
  await out.stop();
  await running;
});

test("a relay has closed its target when stop() returns", async (context) => {
  const [closing, gate] = [deferred(), deferred()];
  const close = async () => {
    closing.resolve();
    await gate.wait();
  };
  const { out, happened } = await setUp(context, { close });
  const running = out.run();
  await out.ready;
  const stopped = out.stop().then(() => happened.push("stopped"));
  await closing.wait();
  await context.sql("select 1"); // time for a stop that does not wait
  gate.resolve();
  await stopped;
  await running;
  assert.deepEqual(happened, ["opening", "closed", "stopped"]);
});

test("the promise ready of an inbox rejects if the inbox is stopped before", async (context) => {
  const db = context.use(await connect(context.url));
  const incoming = inbox(db, { id: "in", servers: "nats://127.0.0.1:1", stream: "SHOP" });
  const ready = incoming.ready;
  await incoming.run({ signal: AbortSignal.abort() });
  await assert.rejects(within(ready), /inbox "in" was stopped before it was ready/);
});

test("an inbox that is stopped while its NATS server is silent ends at once", async (context) => {
  const db = context.use(await connect(context.url));
  const came = deferred();
  const silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const conns: Deno.Conn[] = [];
  const listening = (async () => {
    for await (const conn of silent) {
      conns.push(conn);
      came.resolve();
    }
  })();
  const { port } = silent.addr as Deno.NetAddr;
  const servers = `nats://127.0.0.1:${port}`; // NATS's client waits 5 s for it
  const incoming = inbox(db, { id: "in", servers, stream: "SHOP" });
  const running = incoming.run();
  await came.wait();
  await within(incoming.stop(), { what: "the stop", deadline: 3000 });
  await within(running, { what: "the run" });
  silent.close();
  for (const conn of conns) conn.close();
  await listening;
});
