/** Without LISTEN, as poolers in transaction mode need it: how it is turned off, and how readers look then. */

import assert from "node:assert/strict";
import { connect, Consumer, notify } from "../../mod.ts";
import { Inbox, test } from "../harness/mod.ts";

test("listen=off in the URL turns LISTEN off, and the option counts more", async (context) => {
  const off = new URL(context.url);
  off.searchParams.set("listen", "off");
  off.searchParams.set("application_name", "listens not");
  const on = new URL(off);
  on.searchParams.set("application_name", "listens");
  for (
    const [url, options, expected] of [
      [off, {}, false],
      [on, { listen: true }, true],
    ] as const
  ) {
    const db = await connect(url.href, options);
    const consumer = new Consumer(db, { id: "c", channels: "c", handle() {} });
    const running = consumer.run();
    await consumer.ready;
    const [{ listening }] = await context.sql("select listening from hark.workers_of('c')");
    assert.equal(listening, expected, url.href);
    await consumer.stop();
    await running;
    await db.close();
  }
  off.searchParams.set("listen", "maybe");
  await assert.rejects(connect(off.href), {
    code: "BAD_OPTION",
    message: /the parameter listen of the database URL is "maybe"\. Give one of: on, off/,
  });
});

test("a reader that only polls looks again soon after it has found something", async (context) => {
  const db = context.use(await connect(context.url, { listen: false }));
  const received = new Inbox<number>();
  const consumer = new Consumer(db, {
    id: "c",
    channels: "c",
    pollInterval: "1h",
    handle: ({ payload }) => received.push(payload),
  });
  await notify(db, "c", 0);
  const running = consumer.run();
  await received.atLeast(1);
  // Each is found although nothing wakes the reader and the next regular look is in an hour.
  for (let n = 1; n <= 5; n++) {
    await new Promise((resolve) => setTimeout(resolve, 60));
    await notify(db, "c", n);
    await received.atLeast(n + 1);
  }
  await consumer.stop();
  await running;
});
