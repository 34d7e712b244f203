/**
 * A relay to webhooks: how long a notification takes from the publishing call to its endpoint, while some
 * endpoints hang and some fail, beside the same without these.
 *
 *     deno task bench webhooks [--endpoints 1000] [--hang 50] [--fail 50] [--rate 200] [--seconds 30]
 *       [--json]
 *
 * Works in databases of its own, which it removes. All endpoints are one server of this program.
 *
 * @module
 */

import { notifyMany } from "@hark/postgres";
import { relay, webhooks } from "@hark/postgres/relay";
import { flags } from "./flags.ts";
import { ownDatabase, pause, quantile } from "./own.ts";
import { print } from "./table.ts";

const given = flags({ endpoints: "1000", hang: "50", fail: "50", rate: "200", seconds: "30" });
const endpoints = given.number("endpoints");
const rate = given.number("rate");
const seconds = given.number("seconds");

/** What came of one run: milliseconds to the good endpoints. */
interface Took {
  readonly sent: number;
  readonly times: readonly number[];
}

/** Publishes to all endpoints in turn, the first of which hang, and the next fail. */
async function run(hang: number, fail: number): Promise<Took> {
  await using own = await ownDatabase();
  const { db } = own;
  const over = new AbortController();
  const times: number[] = [];
  const server = Deno.serve({
    hostname: "127.0.0.1",
    port: 0,
    signal: over.signal,
    onListen() {},
    onError: () => new Response(null, { status: 500 }),
  }, async (request) => {
    const endpoint = Number(new URL(request.url).pathname.slice(1));
    const at = await request.json();
    if (endpoint < hang) {
      return await new Promise<Response>((_, reject) =>
        over.signal.addEventListener("abort", () => reject(over.signal.reason))
      );
    }
    if (endpoint < hang + fail) return new Response(null, { status: 500 });
    times.push(performance.now() - at);
    return new Response();
  });
  const out = relay(db, {
    id: "out",
    channels: "events",
    stopTimeout: 0,
    to: webhooks({
      endpoint: ({ key }) => ({
        name: key!,
        url: `http://127.0.0.1:${server.addr.port}/${key}`,
        secret: `whsec_${btoa("a secret of 24 bytes for the bench")}`,
      }),
      allowPrivateAddresses: true,
    }),
  });
  const running = out.run();
  await out.ready;
  const begun = performance.now();
  let [n, sent] = [0, 0];
  while (performance.now() - begun < seconds * 1000) {
    const due = Math.floor((performance.now() - begun) / 1000 * rate);
    const batch = [];
    for (; n < due; n++) {
      const endpoint = n % endpoints;
      if (endpoint >= hang + fail) sent++;
      batch.push({ channel: "events", key: String(endpoint), payload: performance.now() });
    }
    if (batch.length > 0) await notifyMany(db, batch);
    await pause(10);
  }
  const last = performance.now();
  while (times.length < sent && performance.now() - last < 60_000) await pause(50);
  await out.stop();
  await running;
  over.abort();
  await server.finished;
  return { sent, times };
}

const [hang, fail] = [given.number("hang"), given.number("fail")];
const rows = [];
for (const [hanging, failing] of [[0, 0], [hang, fail]] as const) {
  const { sent, times } = await run(hanging, failing);
  rows.push({
    what: hanging + failing === 0 ? "all are good" : "some hang and fail",
    hang: hanging,
    fail: failing,
    "sent to good ones": sent,
    arrived: times.length,
    "median ms": Math.round(quantile(times, 0.5) * 10) / 10,
    "99 % ms": Math.round(quantile(times, 0.99) * 10) / 10,
  });
}
await print({
  title: "A relay to webhooks of many parties",
  notes: [
    `${rate} notifications a second for ${seconds} s, to ${endpoints} endpoints in turn, one process.`,
    "The time from the publishing call to the endpoint, of those that neither hang nor fail.",
    "Those that hang do not answer within the timeout of 15 s.",
  ],
  rows,
}, given);
