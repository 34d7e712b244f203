import assert from "node:assert/strict";
import { CloudEvent as Event, HTTP } from "npm:cloudevents@10.0.0";
import { connect, Consumer, type Notification, notify, notifyMany } from "../../mod.ts";
import {
  type CloudEvent,
  fromCloudEvent,
  fromMessage,
  installUri,
  toBinary,
  toCloudEvent,
  toStructured,
} from "../../src/cloudevents/mod.ts";
import { test } from "../harness/mod.ts";

/** The examples of the specification, version 1.0.2: spec.md, json-format.md. */
const examples: CloudEvent[] = [
  {
    specversion: "1.0",
    type: "com.github.pull_request.opened",
    source: "https://github.com/cloudevents/spec/pull",
    subject: "123",
    id: "A234-1234-1234",
    time: "2018-04-05T17:31:00Z",
    comexampleextension1: "value",
    comexampleothervalue: 5,
    datacontenttype: "text/xml",
    data: '<much wow="xml"/>',
  },
  {
    specversion: "1.0",
    type: "com.example.someevent",
    source: "/mycontext",
    id: "B234-1234-1234",
    time: "2018-04-05T17:31:00Z",
    comexampleextension1: "value",
    comexampleothervalue: 5,
    datacontenttype: "application/vnd.apache.thrift.binary",
    data_base64: btoa("binary"),
  },
  {
    specversion: "1.0",
    type: "com.example.someevent",
    source: "/mycontext",
    id: "C234-1234-1234",
    time: "2018-04-05T17:31:00Z",
    datacontenttype: "application/json",
    data: { appinfoA: "abc", appinfoB: 123, appinfoC: true },
  },
  { specversion: "1.0", type: "com.example.someevent", source: "/mycontext", id: "D", data: "x" },
];

/** Attributes as text, as headers have them. */
function asText(event: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(event).map(([name, value]) => [
      name,
      name.startsWith("data") && name !== "dataschema" ? value : String(value),
    ]),
  );
}

Deno.test("the specification's examples come through both modes as they were", () => {
  for (const event of examples) {
    const structured = toStructured(event);
    assert.deepEqual(fromMessage(structured.headers, structured.body), event);
    const binary = toBinary(event);
    const { datacontenttype = "application/json" } = event;
    assert.deepEqual(
      asText(fromMessage(binary.headers, binary.body)),
      asText({ ...event, datacontenttype }),
    );
  }
});

Deno.test("the library of CloudEvents reads what Hark writes, and Hark what it writes", () => {
  for (const event of examples) {
    for (const message of [toBinary(event), toStructured(event)]) {
      const read = HTTP.toEvent({
        headers: { ...message.headers },
        body: message.body instanceof Uint8Array ? message.body : message.body,
      }) as Event<unknown>;
      for (const name of ["id", "source", "type", "subject"]) {
        assert.equal(read[name], event[name], name);
      }
      if (event.datacontenttype === "application/json") assert.deepEqual(read.data, event.data);
    }
  }
  const made = new Event({
    id: "1",
    source: "/shop",
    type: "orders",
    subject: "ключ 100 %",
    traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    data: { id: 42 },
  });
  for (const { headers, body } of [HTTP.binary(made), HTTP.structured(made)]) {
    const event = fromMessage(headers as Record<string, string>, body as string);
    assert.deepEqual(event.data, { id: 42 });
    assert.equal(event.traceparent, made.traceparent);
    assert.equal(event.type, "orders");
  }
});

test("a notification becomes an event and comes back with all that it had", async ({ url, sql }) => {
  await using db = await connect(url);
  const headers = { traceparent: "00-1-2-01", "hark-version": 2, deep: { a: 1 }, By: "shop" };
  await notify(db, "orders", { id: 42 }, { key: "ada / 1", headers });
  const got: Notification[] = [];
  await new Consumer(db, { id: "c", channels: "orders", handle: (n) => void got.push(n) }).drain();
  const source = await installUri(db);
  const [{ id }] = await sql("select id from hark.install");
  assert.equal(source, `urn:uuid:${id}`);
  const event = toCloudEvent(got[0]!, { source });
  assert.equal(event.type, "orders");
  assert.equal(event.subject, "ada / 1");
  assert.equal(event.dataschema, "urn:hark:channel:orders:2");
  assert.equal(event.traceparent, "00-1-2-01");
  const { headers: as, body } = toBinary(event);
  const back = fromCloudEvent(fromMessage(as, body), { dedupe: "1h" });
  await notifyMany(db, [back]);
  await notifyMany(db, [back]);
  const rows = await sql("select channel, key, payload, headers from hark.log order by id");
  assert.equal(rows.length, 2, "the second time is a duplicate");
  const { "ce-id": ceId, "ce-source": from, "ce-time": _, "ce-dataschema": __, ...rest } =
    rows[1].headers;
  assert.deepEqual([ceId, from], ["1", source]);
  assert.deepEqual({ ...rows[1], headers: rest }, rows[0]);
});

test("numbers keep all their digits on the way in and out, in both modes", async ({ url, sql }) => {
  await using db = await connect(url);
  const data = '{"id": 9007199254740993, "price": [1.1, 12345678901234567890.5], "text": "1e400"}';
  const event = '"specversion":"1.0","id":"1","source":"/s","type":"c"';
  const structured = { "content-type": "application/cloudevents+json" };
  const binary = { "ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "c" };
  const incoming = [
    fromMessage(structured, `{${event},"data":${data}}`),
    fromMessage(binary, data),
    { ...fromMessage(binary, data), source: "/other" },
    fromMessage(binary, "9007199254740993"),
  ];
  assert.equal((incoming[0]!.data as { id: number }).id, 9007199254740992, "a plain number");
  await notifyMany(db, incoming.map((one) => fromCloudEvent(one)));
  const payloads = async () =>
    (await sql("select payload::text from hark.log order by id")).map(({ payload }) => payload);
  const [{ whole }] = await sql("select $1::jsonb::text as whole", [data]);
  const expected = [whole, whole, whole, "9007199254740993"];
  assert.deepEqual(await payloads(), expected);
  const got: Notification[] = [];
  await new Consumer(db, { id: "c", channels: "c", handle: (n) => void got.push(n) }).drain();
  await sql("delete from hark.log");
  for (const write of [toBinary, toStructured]) {
    const sent = got.map((one) => write(toCloudEvent(one, { source: "/s" })));
    const back = sent.map(({ headers, body }) => fromCloudEvent(fromMessage(headers, body)));
    await notifyMany(db, back);
  }
  assert.deepEqual(await payloads(), [...expected, ...expected]);
});

Deno.test("a number that loses no digits stays a number, however it was written", () => {
  const binary = { "ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "c" };
  const read = (data: string) => fromCloudEvent(fromMessage(binary, data)).payload;
  const plain = "[10.0, 1.10, 1e3, -2.50E+1, 0.0, -0, 0.1, 5e-324, 1E22, 1234567890.12345600000]";
  assert.deepEqual(read(plain), JSON.parse(plain));
  // Also beside one that loses some. These are as they were, since nothing else has their digits.
  const lossy = ["9007199254740993", "0.10000000000000000555", "1e400", "1e-400"];
  const [first, ...others] = read(`[10.0, ${lossy}]`) as unknown[];
  assert.equal(first, 10);
  assert.deepEqual(others.map((one) => JSON.stringify(one)), lossy);
});

Deno.test("data that a program has changed is published as it is then", () => {
  const binary = { "ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "c" };
  const event = fromMessage(binary, '{"id": 9007199254740993}');
  (event.data as { id: unknown }).id = "changed";
  assert.deepEqual(fromCloudEvent(event).payload, { id: "changed" });
  assert.equal(toBinary(event).body, '{"id":"changed"}');
});

Deno.test("what is no event is refused with the attribute and the reason", () => {
  const good = { specversion: "1.0", id: "1", source: "/s", type: "t" };
  for (
    const [change, reason] of [
      [{ specversion: "0.3" }, /specversion is "0\.3"/],
      [{ id: "" }, /id is ""/],
      [{ time: "yesterday" }, /time is "yesterday".*RFC 3339/],
      [{ Big: 1 }, /attribute "Big"/],
      [{ data: 1, data_base64: "eA==" }, /data and data_base64/],
      [{ subject: "" }, /subject is ""/],
      [{ data_base64: "*" }, /data_base64 is "\*"/],
      [{ data_base64: 42 }, /data_base64 is 42/],
    ] as const
  ) {
    assert.throws(() => fromCloudEvent({ ...good, ...change }), {
      code: "BAD_PAYLOAD",
      message: reason,
    });
  }
  assert.throws(() => fromMessage({}, "{}"), { message: /no event.*ce-specversion/ });
  const structured = { "content-type": "application/cloudevents+json" };
  assert.throws(() => fromMessage(structured, new Uint8Array([0xff])), {
    code: "BAD_PAYLOAD",
    message: /no text in UTF-8/,
  });
});
