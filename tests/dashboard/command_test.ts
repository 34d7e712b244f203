import assert from "node:assert/strict";
import { connect, Consumer, notify, seek } from "../../mod.ts";
import { hark, jsonOutput, output, refused } from "../cli/_support/hark.ts";
import { test } from "../harness/mod.ts";

test("hark dashboard serves this machine with the rights of its task, and ends in order", async ({ url, use, sql }) => {
  await sql("select hark.register('billing', array['orders'])");
  const child = use(hark(["dashboard", "--port", "0", "--read-only", "--json"], { url }));
  const [, origin] = await child.line(/"url":"([^"]+)"/);
  const page = await fetch(`${origin}/consumers`);
  assert.match(await page.text(), /billing/);
  const act = await fetch(`${origin}/act`, {
    method: "POST",
    body: new URLSearchParams({ act: "pause", consumer: "billing" }),
  });
  assert.equal(act.status, 403);
  await act.body?.cancel();
  // A page of another name that points to this machine, and what is no name.
  const { port } = new URL(origin!);
  for (const host of ["evil.example", "a b", "[", ""]) {
    using foreign = await Deno.connect({ hostname: "127.0.0.1", port: Number(port) });
    await foreign.write(new TextEncoder().encode(`GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`));
    const answer = new Uint8Array(64);
    await foreign.read(answer);
    assert.match(new TextDecoder().decode(answer), /^HTTP\/1\.1 421 /, host);
  }
  // An open page does not keep it from ending.
  const live = await fetch(`${origin}/live?page=/`);
  const reader = live.body!.getReader();
  await reader.read();
  child.kill("SIGTERM");
  assert.equal((await child.ended()).code, 0);
  await reader.cancel().catch(() => {});
});

test("hark dashboard says that its port is in use, and what to do", async ({ url }) => {
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = taken.addr as Deno.NetAddr;
  await refused(
    ["dashboard", "--port", String(port)],
    2,
    new RegExp(`port ${port} is in use.*--port 0`),
    { url },
  );
});

test("hark acts, workers and dead groups tell what the pages tell", async ({ url, use }) => {
  const db = use(await connect(url));
  for (let n = 1; n <= 5; n++) await notify(db, "orders", { n });
  await new Consumer(db, {
    id: "billing",
    channels: "orders",
    from: "beginning",
    maxAttempts: 1,
    handle({ id }) {
      throw new Error(id === 5 ? "no such account" : `out of stock: article ${id}`);
    },
  }).drain();
  const groups = await jsonOutput(["dead", "groups"], { url });
  assert.deepEqual(
    groups.map(({ consumer, error, count }: Record<string, unknown>) => [consumer, error, count]),
    [["billing", "out of stock: article", 4], ["billing", "no such account", 1]],
  );
  await output(["retry", "billing", "--error", groups[0].error], { url });
  await output(["pause", "billing"], { url });
  await output(["pause", "billing"], { url }); // it was paused already
  await db.query("select hark.discard('billing', ids => array[1, 2])");
  const acts = await jsonOutput(["acts", "--about", "billing"], { url });
  assert.deepEqual(
    acts.map(({ what, affected, detail }: Record<string, unknown>) => [what, affected, detail]),
    [["discard", 2, "2 ids, only waiting"], ["pause", null, ""], [
      "retry",
      4,
      "by error, only dead",
    ]],
  );
  assert.match(await output(["acts"], { url }), /discard +billing +2 +2 ids/);
  assert.match(await output(["workers"], { url }), /no worker runs/);
  const consumer = new Consumer(db, { id: "mail", channels: "orders", handle() {} });
  const run = consumer.run();
  const { promise, resolve } = Promise.withResolvers<void>();
  const look = setInterval(async () => {
    const { rows } = await db.query(
      "select from hark.partitions where consumer = 'mail' and owner is not null",
    );
    if (rows.length > 0) resolve();
  }, 20);
  await promise;
  clearInterval(look);
  assert.match(await output(["workers"], { url }), /mail +\S+ +yes .* LISTEN +0/);
  await consumer.stop();
  await run;
});

test("a preview says what a seek and a replay do, and changes nothing", async ({ url, use, sql }) => {
  const db = use(await connect(url));
  const drain = (fail: boolean) =>
    new Consumer(db, {
      id: "billing",
      channels: "orders",
      partitions: 3,
      from: "beginning",
      filter: { payload: { ok: true } },
      retry: { initial: "1h", maximum: "1h" },
      handle() {
        if (fail) throw new Error("no");
      },
    }).drain();
  const publish = (n: number, ok = true) => notify(db, "orders", { n, ok });
  const first = await publish(1);
  for (let n = 2; n <= 6; n++) await publish(n, n !== 4); // 4 does not match
  await publish(7, false);
  await notify(db, "others", {});
  await drain(false);
  const failed = await publish(8);
  await drain(true);
  const unread = await publish(9);
  await publish(10);
  const would = async (to: string) => {
    const { again, skipped, givenUp, capped } = await jsonOutput(
      ["seek", "billing", to, "--dry-run"],
      { url },
    );
    return { again, skipped, givenUp, capped };
  };
  assert.deepEqual(await would("beginning"), { again: 6, skipped: 0, givenUp: 0, capped: false });
  assert.deepEqual(await would(String(first + 1)), {
    again: 5,
    skipped: 0,
    givenUp: 0,
    capped: false,
  });
  assert.deepEqual(await would("now"), { again: 0, skipped: 2, givenUp: 1, capped: false });
  assert.deepEqual(await would(String(unread)), {
    again: 0,
    skipped: 0,
    givenUp: 1,
    capped: false,
  });
  assert.deepEqual(await would(String(failed)), {
    again: 1,
    skipped: 0,
    givenUp: 0,
    capped: false,
  });
  const replay = await jsonOutput(
    ["replay", "billing", "--from", String(first), "--dry-run"],
    { url },
  );
  assert.deepEqual([replay.again, replay.unread], [6, 2]);
  assert.deepEqual(await jsonOutput(["acts"], { url }), []);
  // It does what was said.
  assert.deepEqual(await seek(db, "billing", { id: unread }), { givenUp: 1 });
  assert.equal((await sql("select from hark.dead")).length, 1);
});
