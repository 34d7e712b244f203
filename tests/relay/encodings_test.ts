/** Databases whose encoding lacks characters that come from outside. */

import assert from "node:assert/strict";
import { connect, notify } from "../../mod.ts";
import { deadMessages, inbox } from "../../src/inbox/mod.ts";
import { relay, relayEndpoints, webhooks } from "../../src/relay/mod.ts";
import { test, until, within } from "../harness/mod.ts";
import { Nats, natsRuns, natsUrl } from "../harness/nats.ts";
import { partner } from "../handlers/_support/partner.ts";

test("a message with characters that the database lacks holds up none behind it", {
  encoding: "LATIN1",
  ignore: !natsRuns,
}, async (context) => {
  const db = context.use(await connect(context.url));
  const nats = context.use(await Nats.open());
  const stream = await nats.stream();
  await nats.send(`${stream}.ключ`, "1");
  await nats.send(`${stream}.a`, "nicht für JSON: ключ", { "X-Name": "ü ключ" });
  await nats.send(`${stream}.a`, '"ü"');
  const { published, dead } = await within(
    inbox(db, { id: "in", servers: natsUrl, stream }).drain(),
  );
  assert.deepEqual([published, dead], [1, 2]);
  const letters = await Array.fromAsync(deadMessages(db, "in"));
  assert.equal(letters[0]!.message.subject, `${stream}.\\u043a\\u043b\\u044e\\u0447`);
  assert.match(letters[0]!.reason, /no equivalent in encoding "LATIN1"/);
  assert.equal(letters[1]!.message.text(), "nicht für JSON: ключ", "the body as it came");
  assert.match(letters[1]!.message.headers["X-Name"]!, /\\u043a/);
  assert.deepEqual(await context.sql("select payload from hark.log"), [{ payload: "ü" }]);
});

test("what an endpoint said in characters that the database lacks is kept", {
  encoding: "LATIN1",
}, async (context) => {
  const db = context.use(await connect(context.url));
  const server = partner(context, () => new Response("мы закрыты", { status: 503 }));
  const out = relay(db, {
    id: "out",
    channels: "c",
    to: webhooks({
      endpoint: () => ({
        name: "a",
        url: server.origin,
        secret: `whsec_${btoa("x".repeat(32))}`,
      }),
      allowPrivateAddresses: true,
    }),
  });
  const running = out.run();
  await out.ready;
  await notify(db, "c");
  const [endpoint] = await until(async () => {
    const found = await relayEndpoints(db, "out");
    return found.length > 0 && found;
  }) as Awaited<ReturnType<typeof relayEndpoints>>;
  await out.stop();
  await running;
  assert.match(endpoint!.reason, / answered 503: \\u043c\\u044b /);
});
