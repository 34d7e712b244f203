/** What the functions of a program may answer about a request, and what is refused. */

import assert from "node:assert/strict";
import { connect, type Notification, notify, notifyMany } from "../../mod.ts";
import { streams, type StreamsOptions } from "../../src/streams/mod.ts";
import { logged, said, sentence } from "../faults/_support/logs.ts";
import { test } from "../harness/mod.ts";

const ask = () => new Request("http://localhost/?offset=-1");

for (const wrong of ["", "ada", 0, 1, NaN, [true], new Map([["filter", 1]])]) {
  test(`authorize that returns ${Deno.inspect(wrong)} refuses, and is told once`, async (context) => {
    const db = context.use(await connect(context.url));
    await notify(db, "c", "hidden");
    const since = Date.now();
    const handle = streams(db, { channels: "c", authorize: () => wrong as never });
    for (let i = 0; i < 2; i++) {
      const response = await handle(ask());
      assert.equal(response.status, 403);
      assert.doesNotMatch(await response.text(), /hidden/);
    }
    await said("error", /^authorize of streams returned .*refused/, since);
    const errors = logged.items.filter((record) =>
      record.timestamp >= since && record.level === "error"
    );
    assert.equal(errors.length, 1, errors.map(sentence).join("\n"));
  });
}

test("authorize that returns nothing refuses", async (context) => {
  const db = context.use(await connect(context.url));
  for (const no of [false, null, undefined]) {
    const handle = streams(db, { channels: "c", authorize: () => no as false });
    assert.equal((await handle(ask())).status, 403);
  }
});

test("a misspelt filter lets nothing through, and the client does not learn of it", async (context) => {
  const db = context.use(await connect(context.url));
  await notify(db, "c", "hidden");
  const filtr = () => false;
  const wrong: StreamsOptions[] = [
    { authorize: () => ({ filtr } as never), channels: "c" },
    { authorize: () => true, route: () => ({ channels: "c", filtr } as never) },
    { authorize: () => true, route: () => "c" as never },
  ];
  for (const options of wrong) {
    const since = Date.now();
    const response = await streams(db, options)(ask());
    assert.equal(response.status, 500);
    assert.doesNotMatch(await response.text(), /hidden|filt/);
    await said("error", /could not be read: .*a route (has no option|was given)/, since);
  }
});

test("a filter that returns a promise lets nothing through, and is told", async (context) => {
  const db = context.use(await connect(context.url));
  await notifyMany(db, [1, 2].map((payload) => ({ channel: "c", payload })));
  const since = Date.now();
  const filter = async ({ payload }: Notification) => {
    await Promise.resolve();
    if (payload === 1) throw new Error("it fails, and the program goes on");
    return false;
  };
  const handle = streams(db, { channels: "c", authorize: () => ({ filter: filter as never }) });
  assert.deepEqual(await (await handle(ask())).json(), []);
  await said("error", /left out of a stream: filter returned a promise/, since);
});

test("a filter of the route stays if authorize gives an undefined one", async (context) => {
  const db = context.use(await connect(context.url));
  await notifyMany(db, ["ada", "bob"].map((payload) => ({ channel: "c", payload })));
  const handle = streams(db, {
    authorize: () => ({ filter: undefined } as never),
    route: () => ({ channels: "c", filter: ({ payload }) => payload === "ada" }),
  });
  assert.deepEqual(await (await handle(ask())).json(), ["ada"]);
});
