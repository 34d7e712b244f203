import assert from "node:assert/strict";
import { spawnDeno, test } from "../harness/mod.ts";

test("memory stays flat over 100,000 large rows and a slow body: a page is bounded in bytes", {
  timeout: 180_000,
}, async (context) => {
  // 100,000 rows of 2 KB: 200 MB as text, read by a process whose heap ends at 64 MB.
  for (let part = 0; part < 10; part++) {
    await context.sql(
      `with published as materialized (
        select hark.notify('c', jsonb_build_object('n', n, 'text', repeat(md5(n::text), 64)))
        from generate_series($1::int, $2::int) n
      ) select count(*) from published`,
      [part * 10_000, part * 10_000 + 9_999],
    );
  }
  await using child = spawnDeno(["tests/consume/_support/slow_reader.ts", context.url], {
    permissions: ["-P=test", "--v8-flags=--max-old-space-size=64"],
  });
  const [, grown] = await child.line(/^read 100000, grew by (-?\d+) MB$/, { deadline: 150_000 });
  assert(Number(grown) < 80, `it grew by ${grown} MB while it read 160 MB`);
});

test("a subscription that is late keeps nothing in memory of what others read with it", {
  timeout: 120_000,
}, async (context) => {
  // 100 pages of 900 KB, in a process whose heap ends at 64 MB.
  await using child = spawnDeno(["tests/consume/_support/small_reader.ts", context.url, "100"], {
    permissions: ["-P=test", "--v8-flags=--max-old-space-size=64"],
  });
  await child.line(/^took 100$/, { deadline: 90_000 });
});
