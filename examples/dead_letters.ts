/**
 * A notification that fails too often becomes a dead letter, with a copy and the last error. It
 * stays until you decide: retry it or discard it.
 *
 *     DATABASE_URL=postgres://… deno run -P=example examples/dead_letters.ts
 */
import {
  connect,
  Consumer,
  deadLetters,
  discard,
  migrate,
  notifyMany,
  retry,
} from "@hark/postgres";

await using db = await connect(Deno.env.get("DATABASE_URL"));
await migrate(db);
await notifyMany(
  db,
  ["letter", "poster", "banknote"].map((what) => ({ channel: "prints", payload: { what } })),
);

let paper = false;
const id = "example-dead-letters";
const printer = new Consumer<{ what: string }>(db, {
  id,
  channels: "prints",
  maxAttempts: 2,
  retry: { initial: 50 },
  handle({ payload: { what } }) {
    if (what === "banknote") throw new Error("that is against the law");
    if (what === "poster" && !paper) throw new Error("out of paper");
    console.log("printed:", what);
  },
});
await printer.drain();

for (const { payload, attempts, error } of await deadLetters(db, { consumer: id })) {
  console.log("dead letter:", payload, `after ${attempts} attempts: ${error}`);
}

paper = true;
console.log(await retry(db, id, { error: "out of paper" }), "will be retried");
await printer.drain();

console.log(await discard(db, id, { all: true }), "discarded");
