import assert from "node:assert/strict";
import { ownCommand } from "../../src/cli/server.ts";
import { facts, plain, table, tableOf } from "../../src/cli/print/table.ts";
import { bytesText, durationText, numberText, until } from "../../src/cli/print/text.ts";

Deno.test("durations are written as people read them", () => {
  for (
    const [ms, text] of [
      [-5, "0 s"],
      [0, "0 s"],
      [260, "0.3 s"],
      [3000, "3 s"],
      [9960, "10 s"],
      [119_400, "119 s"],
      [336_120, "5.6 min"],
      [3_600_000, "60 min"],
      [3 * 3_600_000, "3 h"],
      [2 * 86_400_000, "2 days"],
      [1234 * 86_400_000, "1,234 days"],
    ] as const
  ) assert.equal(durationText(ms), text, String(ms));
  assert.equal(until(new Date(Date.now() - 1)), "now");
  assert.match(until(new Date(Date.now() + 336_120)), /^in 5\.6 min$/);
});

Deno.test("numbers have separators, also beside a fraction", () => {
  assert.deepEqual(
    [0, 999, 1000, 1234567, 1234.56789].map(numberText),
    ["0", "999", "1,000", "1,234,567", "1,234.56789"],
  );
  assert.deepEqual([0, 999, 1536, 5e9].map(bytesText), ["0 B", "999 B", "1.5 kB", "4.7 GB"]);
});

Deno.test("columns are aligned: numbers to the right, by what a terminal shows", () => {
  assert.equal(
    table("name, unread, error", [
      ["a", 1234, "out of paper\nand ink"],
      ["通知", 7, "-"],
      ["🐘e\u0301\x1b", 0, "x"],
    ]),
    [
      "name       unread  error",
      "a           1,234  out of paper",
      "                   and ink",
      "通知            7  -",
      "🐘e\u0301\\u001b       0  x",
    ].join("\n"),
  );
  assert.equal(table("id, n", [["1", 2]]), "id  n\n1   2");
  assert.equal(facts([["log", "3"], ["dead letters", 12]]), "log           3\ndead letters  12");
});

Deno.test("a hint outside a clone has the rights that the guide names for the command", async () => {
  const guide = (await Deno.readTextFile("docs/guide/test.md")).replaceAll(/\\\n\s+/g, "");
  const elsewhere = "https://packages.example/hark/src/cli/server.ts";
  const dev = ownCommand("dev", elsewhere);
  assert.ok(guide.split("\n").includes(dev), dev);
  assert.equal(ownCommand("listen", elsewhere), dev.replace(/dev$/, "listen"));
  assert.equal(
    ownCommand("tail", elsewhere),
    "deno run --allow-net --allow-env --allow-read jsr:@hark/postgres/cli tail",
  );
  assert.equal(ownCommand("dev"), "deno task dev");
});

Deno.test("a table has as many rows as there are, however many", () => {
  const ids = Array.from({ length: 150_000 }, (_, i) => i + 1);
  const lines = tableOf(ids, "id", (id) => [plain(id)]).split("\n");
  assert.deepEqual([lines.length, lines[1], lines.at(-1)], [150_001, "     1", "150000"]);
});
