import assert from "node:assert/strict";
import { connect, notify } from "../../mod.ts";
import { hark, ran } from "../cli/_support/hark.ts";
import { test as declare, type TestBody } from "../harness/mod.ts";
import { Nats, natsRuns, natsUrl } from "../harness/nats.ts";

const test = (name: string, body: TestBody) => declare(name, { ignore: !natsRuns }, body);

test("hark relay checks, shows what it would do, and does it", async ({ url }) => {
  await using nats = await Nats.open();
  const stream = await nats.stream();
  await using db = await connect(url);
  await notify(db, "orders", 1, { key: "a" });
  await notify(db, "orders", "x".repeat(2_000_000), { key: "b" });
  const relay = ["relay", "out", "--stream", stream, "--channels", "orders", "--nats", natsUrl];
  const rest = ["--subject", `${stream}.{channel}.{key}`];
  const run = (...more: string[]) => ran([...relay, ...rest, ...more], { url });
  const checked = await run("--check");
  assert.match(checked.stdout, /^out can publish to the stream .*\n.*one replica/);
  const astray = await ran([...relay, "--check"], { url });
  assert.equal(astray.code, 1);
  assert.match(astray.stderr, /does not take the subject orders of channel "orders"\. It takes/);
  const shown = await run("--dry-run");
  assert.match(
    shown.stdout,
    new RegExp(`^#1 orders: ${stream}\\.orders\\.a of stream ${stream}, 1 bytes`),
  );
  assert.match(shown.stdout, /#2 orders: refused: .*2000002 bytes/);
  assert.equal(await nats.count(stream), 0);
  const drained = await run("--drain", "--json");
  assert.equal(JSON.parse(drained.stdout).handled, 1);
  assert.equal(await nats.count(stream), 1);
  const none = await run("--dry-run");
  assert.match(none.stdout, /Nothing is unread/);
  await notify(db, "x\u001b[2J", 1);
  const odd = await ran(
    [
      "relay",
      "odd",
      "--stream",
      stream,
      "--channels",
      "x\u001b[2J",
      "--nats",
      natsUrl,
      "--dry-run",
    ],
    { url },
  );
  assert.match(odd.stdout, /^#\d+ x\\u001b\[2J: refused/, "a channel cannot steer the terminal");
  const wrong = await ran([
    "relay",
    "out",
    "--stream",
    "NONE",
    "--channels",
    "orders",
    "--nats",
    natsUrl,
  ], { url });
  assert.equal(wrong.code, 1);
  assert.match(wrong.stderr, /there is no stream "NONE"\. Make it/);
});

test("hark inbox takes, shows dead letters, and redrives them", async ({ url, sql }) => {
  await using nats = await Nats.open();
  const stream = await nats.stream();
  await nats.send(`${stream}.a`, "9007199254740993");
  await nats.send(`${stream}.a`, "no json");
  const inbox = ["inbox", "in", "--nats", natsUrl];
  const taken = await ran([...inbox, "--stream", stream, "--channel", "c", "--drain"], { url });
  assert.match(
    taken.stdout,
    /^in has taken 2 messages: 1 published, 1 dead: hark inbox in --dead$/m,
  );
  assert.deepEqual(await sql("select channel, payload::text from hark.log"), [{
    channel: "c",
    payload: "9007199254740993",
  }]);
  const dead = await ran([...inbox, "--dead"], { url });
  assert.match(dead.stdout, /^#1 .*, message 2: the body is no JSON: .*not valid JSON$/m);
  assert.match(dead.stdout, /hark inbox in --redrive\n.*hark inbox in --discard 1\n.*map/);
  const again = await ran([...inbox, "--redrive"], { url });
  assert.match(again.stdout, /^0 published, 1 failed again\n\n#1 .*no JSON/);
  const absent = await ran([...inbox, "--discard", "7"], { url });
  assert.equal(absent.code, 1);
  assert.match(absent.stderr, /"in" has no dead letter 7\. See hark inbox in --dead/);
  const given = await ran([...inbox, "--discard", "1"], { url });
  assert.match(given.stdout, /^dead letter 1 of "in" is given up$/m);
  assert.match((await ran([...inbox, "--dead"], { url })).stdout, /"in" has no dead letters/);
});

test("hark inbox says what it left out: messages of this same install", async ({ url, sql }) => {
  await using nats = await Nats.open();
  const stream = await nats.stream();
  await using db = await connect(url);
  for (let n = 0; n < 3; n++) await notify(db, "orders", n);
  const to = ["--stream", stream, "--nats", natsUrl, "--drain"];
  const subject = ["--subject", `${stream}.{channel}`];
  await ran(["relay", "out", "--channels", "orders", ...subject, ...to], { url });
  await nats.send(`${stream}.a`, "1");
  const taken = await ran(["inbox", "in", ...to], { url });
  assert.match(
    taken.stdout,
    /^in has taken 4 messages: 1 published, 3 of this install left out$/m,
  );
  assert.equal((await sql("select from hark.log")).length, 4);
});

test("an inbox that does not exist is an error that names those that do", async ({ url }) => {
  await using nats = await Nats.open();
  const stream = await nats.stream();
  const of = (id: string, ...rest: string[]) =>
    ran(["inbox", id, "--nats", natsUrl, ...rest], { url });
  const early = await of("in", "--dead");
  assert.match(early.stderr, /there is no inbox "in"\. No inbox has taken messages/);
  await of("in", "--stream", stream, "--drain");
  for (const rest of [["--dead"], ["--redrive"], ["--discard", "1"]]) {
    const { code, stderr } = await of("nope", ...rest);
    assert.equal(code, 2, rest[0]);
    assert.match(stderr, /there is no inbox "nope"\. There are: "in"\./);
  }
});

test("hark relay and hark inbox say at a signal that they have stopped", async ({ url, use }) => {
  await using nats = await Nats.open();
  const stream = await nats.stream();
  const to = ["--stream", stream, "--nats", natsUrl];
  const relay = use(hark(["relay", "out", "--channels", "orders", ...to], { url }));
  const inbox = use(hark(["inbox", "in", ...to], { url }));
  await relay.line(/^out relays until Ctrl-C/);
  await inbox.line(/^in takes messages until Ctrl-C/);
  for (const child of [relay, inbox]) {
    child.kill("SIGTERM");
    const { code, stderr } = await child.ended();
    assert.equal(code, 0);
    assert.match(stderr, /^stopped; progress is stored$/m);
  }
});

test("a dry run finds what a relay far behind on a rare channel has to publish", async ({ url, sql }) => {
  await using nats = await Nats.open();
  const stream = await nats.stream();
  const relay = ["relay", "out", "--stream", stream, "--channels", "orders", "--nats", natsUrl];
  const run = (...more: string[]) =>
    ran([...relay, "--subject", `${stream}.{channel}`, ...more], { url });
  assert.equal((await run("--drain")).code, 0);
  await sql("select hark.notify('often')");
  await sql("select setval('hark.log_id_seq', 2000000)");
  await sql("select hark.notify('orders')");
  await sql("update hark.log set created_at = now() - interval '1 hour'");
  assert.match((await run("--dry-run")).stdout, /^#2000001 orders: /);
});
