import assert from "node:assert/strict";
import { type CloudEvent, HTTP } from "npm:cloudevents@10.0.0";
import { connect, notify } from "../../mod.ts";
import { inbox } from "../../src/inbox/mod.ts";
import { jetStream, type MessageFormat, relay } from "../../src/relay/mod.ts";
import { test as declare } from "../harness/mod.ts";
import { Nats, natsRuns, natsUrl } from "../harness/nats.ts";

for (const format of ["cloudevents", "cloudevents-structured"] satisfies MessageFormat[]) {
  declare(
    `with the format ${format}, the library of CloudEvents reads what a relay publishes, and so does an inbox`,
    {
      ignore: !natsRuns,
    },
    async ({ url, sql }) => {
      await using nats = await Nats.open();
      const stream = await nats.stream();
      await using db = await connect(url);
      await sql(
        `select hark.notify('orders.paid', '{"big": 12345678901234567890.1, "name": "Jürgen ☃"}', 'ключ 1',
        '{"by": "shop", "deep": {"x": 1}}')`,
      );
      await notify(db, "orders.paid", null);
      const to = jetStream({ servers: natsUrl, stream, subject: `${stream}.{channel}`, format });
      assert.equal(await relay(db, { id: "out", channels: "orders.paid", to }).drain(), 2);
      const [first, second] = await nats.all(stream);
      const [{ id: install }] = await sql("select id::text from hark.install");
      const read = ({ headers, text: body }: typeof first & object) =>
        HTTP.toEvent({ headers, body }) as CloudEvent<Record<string, unknown>>;
      const event = read(first!);
      // Of a header, the library leaves what the specification encodes.
      const subject = decodeURIComponent(event.subject!);
      assert.deepEqual(
        [event.id, event.source, event.type, subject, event.data?.name, event.by],
        ["1", `urn:uuid:${install}`, "orders.paid", "ключ 1", "Jürgen ☃", "shop"],
      );
      assert.match(first!.text, /12345678901234567890\.1/);
      assert.equal(first!.id, `hark:${install}:1:out`);
      assert.equal(read(second!).subject, undefined);
      const { published } = await inbox(db, { id: "in", servers: natsUrl, stream, takeOwn: true })
        .drain();
      assert.equal(published, 2);
      const rows = await sql(
        `select channel, key, payload->>'name' as name, payload->>'big' as big, headers
        from hark.log where id > 2 order by id`,
      );
      const { headers, ...facts } = rows[0];
      const big = "12345678901234567890.1";
      assert.deepEqual(facts, { channel: "orders.paid", key: "ключ 1", name: "Jürgen ☃", big });
      assert.deepEqual([headers.by, headers.deep, headers["ce-id"]], ["shop", { x: 1 }, "1"]);
      assert.deepEqual([rows[1].key, rows[1].name], [null, null]);
    },
  );
}
