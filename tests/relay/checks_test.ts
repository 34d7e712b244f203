import assert from "node:assert/strict";
import { DiscardPolicy, RetentionPolicy, StorageType } from "@nats-io/jetstream";
import { connect, type HarkErrorCode, notify } from "../../mod.ts";
import { jetStream, type JetStreamOptions, relay } from "../../src/relay/mod.ts";
import { test as declare, type TestBody, until } from "../harness/mod.ts";
import { Nats, natsRuns, natsServer, natsUrl, OwnNats } from "../harness/nats.ts";

const test = (name: string, body: TestBody) => declare(name, { ignore: !natsRuns }, body);

/** Runs a relay, which is to fail at once with one clear message. */
async function refused(url: string, to: JetStreamOptions, code: HarkErrorCode, message: RegExp) {
  await using db = await connect(url);
  const out = relay(db, { id: "out", channels: "orders", to: jetStream(to) });
  await assert.rejects(() => out.run(), (error: Error & { code?: string }) => {
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    return true;
  });
}

test("a relay says at once why its stream will not do", async ({ url }) => {
  await using nats = await Nats.open();
  const short = await nats.stream({ duplicate_window: 1e9 });
  const mute = await nats.stream({ no_ack: true });
  const origin = await nats.stream();
  const mirror = await nats.stream({ subjects: undefined!, mirror: { name: origin } });
  const gathered = await nats.stream({ subjects: undefined!, sources: [{ name: origin }] });
  const to = { servers: natsUrl };
  await refused(url, { ...to, stream: "NO_SUCH" }, "DESTINATION", /no stream "NO_SUCH"\. Make it/);
  await refused(url, { ...to, stream: short }, "DESTINATION", /window of 1000 ms\. Give it/);
  await refused(url, { ...to, stream: mute }, "DESTINATION", /no_ack/);
  await refused(url, { ...to, stream: mirror }, "DESTINATION", /is a mirror/);
  await refused(url, { ...to, stream: gathered }, "DESTINATION", /has no subjects of its own/);
  await refused(
    url,
    { servers: "nats://127.0.0.1:1", stream: "S" },
    "UNREACHABLE",
    /no NATS server answered at 127\.0\.0\.1:1/,
  );
});

test("a check says that the stream does not take the subjects", async ({ url }) => {
  await using nats = await Nats.open();
  await using db = await connect(url);
  const stream = await nats.stream({ subjects: ["S.orders.*", "S.refunds.>", "S.{odd}"] });
  const check = (channels: string[], subject?: JetStreamOptions["subject"]) => {
    const to = jetStream({ servers: natsUrl, stream, ...subject === undefined ? {} : { subject } });
    return relay(db, { id: "out", channels, to }).check();
  };
  for (
    const [channels, subject] of [
      [["orders"], "S.{channel}.{key}"],
      [["orders", "refunds"], "S.{channel}.{id}"],
      [["orders", "refunds"], { orders: "S.orders.{key}", "*": "S.{channel}.x.{header.a.b}" }],
      [["other"], () => "known later"],
      [["{odd}"], "S.{channel}"],
    ] as const
  ) await check([...channels], subject);
  for (
    const [channels, subject, message] of [
      [
        ["orders"],
        undefined,
        /does not take the subject orders of channel "orders"\. It takes S\./,
      ],
      [["refunds", "orders"], "S.{channel}.x.{key}", /subject S\.orders\.x\.\{key\} of channel/],
      [["refunds"], "S.{channel}", /S\.refunds of channel "refunds".*Change the option subject/],
      [["mail"], "S.{channel}.{header.a.b}", /S\.mail\.\{header\.a\.b\} of channel "mail"/],
    ] as const
  ) await assert.rejects(check([...channels], subject), { code: "DESTINATION", message });
  await assert.rejects(check(["orders", "mail"], { orders: "S.orders.{key}" }), {
    code: "BAD_OPTION",
    message: /no rule for channel "mail"/,
  });
});

test("a relay warns of a stream that may lose messages or hold them up", async ({ url }) => {
  await using nats = await Nats.open();
  await using db = await connect(url);
  const warnings = async (stream: string) => {
    const to = jetStream({ servers: natsUrl, stream, subject: `${stream}.{channel}` });
    return (await relay(db, { id: "out", channels: "orders", to }).check()).warnings;
  };
  const memory = await nats.stream({ storage: StorageType.Memory });
  assert.match((await warnings(memory)).join(), /is in memory/);
  const full = await nats.stream({ discard: DiscardPolicy.New, max_msgs: 10 });
  const said = await warnings(full);
  assert.match(said[0]!, /has one replica/);
  assert.match(said[1]!, /discard new/);
  const queue = await nats.stream({ retention: RetentionPolicy.Workqueue });
  assert.match((await warnings(queue)).at(-1)!, /removes what was read .* window of 120 s/);
  const interest = await nats.stream({ retention: RetentionPolicy.Interest });
  assert.match((await warnings(interest))[1]!, /only for consumers that are there/);
});

test("what the stream takes no subject of, or is too large for it, does not hold up the others", async ({ url, sql }) => {
  await using nats = await Nats.open();
  const stream = await nats.stream({ max_msg_size: 2_000 });
  await using db = await connect(url);
  await notify(db, "orders", "x".repeat(3_000), { key: "large" });
  await notify(db, "orders", 2, { key: "stray" });
  await notify(db, "orders", 3, { key: "good" });
  const subject = ({ key }: { key: string | null }) => key === "stray" ? "stray.x" : `${stream}.x`;
  const options = { servers: natsUrl, stream, subject };
  await relay(db, { id: "out", channels: "orders", maxAttempts: 1, to: jetStream(options) })
    .drain();
  assert.deepEqual((await nats.all(stream)).map(({ text }) => text), ["3"]);
  const dead = await sql("select id, error from hark.dead order by id");
  assert.match(
    dead[0].error,
    /^too large for the stream: 3002 bytes and \d+ of headers, and it takes 2000/,
  );
  assert.match(dead[1].error, /does not take the subject stray\.x/);
  const claim = jetStream({ ...options, oversized: "claim" });
  await relay(db, { id: "claims", channels: "orders", maxAttempts: 1, to: claim }).drain();
  const [, said] = await nats.all(stream);
  assert.equal(JSON.parse(said!.text).claim.id, 1);
  assert.equal(said!.headers["Hark-Claim"], "true");
});

test("a full stream that refuses new messages makes the relay wait, and nothing is lost", async ({ url }) => {
  await using nats = await Nats.open();
  const stream = await nats.stream({ discard: DiscardPolicy.New, max_msgs: 2 });
  await using db = await connect(url);
  for (let n = 1; n <= 4; n++) await notify(db, "orders", n, { key: "k" });
  const to = jetStream({ servers: natsUrl, stream, subject: `${stream}.x` });
  const draining = relay(db, { id: "out", channels: "orders", to }).drain();
  const first = await nats.atLeast(stream, 2);
  const { jetstreamManager } = await import("@nats-io/jetstream");
  const manager = await jetstreamManager(nats.connection);
  await manager.streams.purge(stream);
  assert.equal(await draining, 4);
  const all = [...first, ...await nats.all(stream)].map(({ text }) => text);
  assert.deepEqual(all, ["1", "2", "3", "4"]);
});

test("a relay of the same name for another stream is refused while the first one runs", async ({ url }) => {
  await using nats = await Nats.open();
  const [one, two] = [await nats.stream(), await nats.stream()];
  await using db = await connect(url);
  const make = (stream: string) =>
    relay(db, {
      id: "out",
      channels: "orders",
      to: jetStream({ servers: natsUrl, stream, subject: `${stream}.x` }),
    });
  const first = make(one);
  const running = first.run();
  await notify(db, "orders", 1);
  await nats.atLeast(one, 1);
  await refused(
    url,
    { servers: natsUrl, stream: two },
    "CONFLICT",
    /"out" is at work for the stream/,
  );
  await first.stop();
  await running;
  await notify(db, "orders", 2);
  assert.equal(await make(two).drain(), 1);
  await until(async () => (await nats.count(two)) === 1);
});

declare(
  "a NATS user without rights is told what is missing",
  { ignore: natsServer === undefined },
  async ({ url }) => {
    await using server = await OwnNats.start(`authorization { users = [
    { user: admin, password: a }
    { user: blind, password: b, permissions: { publish: ["x.>"], subscribe: ["_INBOX.>"] } }
    { user: mute, password: m, permissions: { publish: ["$JS.API.>"], subscribe: ["_INBOX.>"] } }
  ] }`);
    const as = (login: string) => server.url.replace("//", `//${login}@`);
    await using nats = await Nats.open(server.url, { user: "admin", pass: "a" });
    const stream = await nats.stream();
    const to = { stream, subject: `${stream}.x` };
    await refused(url, { ...to, servers: as("admin:wrong") }, "NO_PERMISSION", /refused the login/);
    await refused(
      url,
      { ...to, servers: as("blind:b") },
      "NO_PERMISSION",
      /may not publish on .*INFO/,
    );
    await using db = await connect(url);
    await notify(db, "orders", 1);
    const errors: string[] = [];
    await relay(db, {
      id: "out",
      channels: "orders",
      maxAttempts: 1,
      to: jetStream({ ...to, servers: as("mute:m") }),
      onError: (error) => void errors.push(String(error)),
    }).drain();
    assert.match(errors.join(), new RegExp(`may not publish on ${stream}\\.x`));
  },
);
