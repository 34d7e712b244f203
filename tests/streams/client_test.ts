/** The protocol's own client, unchanged. */

import assert from "node:assert/strict";
import { stream } from "npm:@durable-streams/client@0.2.7";
import { connect, notifyMany } from "../../mod.ts";
import { test, until } from "../harness/mod.ts";
import { serve } from "./_support/serve.ts";

for (const live of ["sse", "long-poll"] as const) {
  test(`the client of Durable Streams reads all of a channel, and then live by ${live}`, async (context) => {
    const db = context.use(await connect(context.url));
    const { url } = context.use(serve(db, { channels: "c", longPoll: 1000 }));
    const publish = (from: number, to: number) =>
      notifyMany(
        db,
        Array.from({ length: to - from + 1 }, (_, i) => ({ channel: "c", payload: from + i })),
      );
    await publish(1, 700);
    const end = new AbortController();
    const seen: number[] = [];
    let offset = "-1";
    const reading = await stream<number>({ url, offset: "-1", live, signal: end.signal });
    const leave = reading.subscribeJson((batch) => {
      seen.push(...batch.items);
      offset = batch.offset;
    });
    await until(() => seen.length === 700);
    await publish(701, 710);
    await until(() => seen.length === 710);
    leave();
    reading.cancel();
    end.abort();
    await reading.closed.catch(() => {});
    await publish(711, 720);
    const rest = await stream<number>({ url, offset, live: false });
    seen.push(...await rest.json());
    assert.deepEqual(seen, Array.from({ length: 720 }, (_, i) => i + 1));
  });
}
