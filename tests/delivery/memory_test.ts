import assert from "node:assert/strict";
import { join } from "node:path";
import { patient, scratch, test, until } from "../harness/mod.ts";
import { startWorker } from "./_support/fleet.ts";
import { readLedger } from "./_support/ledger.ts";

const count = 50_000;

/** What a worker may grow by, in MiB; the backlog alone is 50 MB of text. */
const bound = 64;

test(
  "a backlog of 50,000 and slow handlers: a worker's memory stays bounded, and it stops within 5 s without repeats",
  {
    timeout: 120_000,
  },
  async (context) => {
    await context.sql(
      `select hark.notify('c', jsonb_build_object('n', n, 'filler', repeat(md5(n::text), 31)), 'k' || n % 100)
      from generate_series(1, $1::int) n`,
      [count],
    );
    await using folder = await scratch();
    const ledger = join(folder.path, "ledger");
    const config = { options: { partitions: 4, concurrency: 10 }, ledger, pace: 5 };
    const handled = async () =>
      (await readLedger(ledger)).filter(({ what }) => what === "ended").map(({ id }) => id);
    {
      await using worker = startWorker(context.url, "slow", config);
      const [, before] = await worker.line(/^ready \d+ rss (\d+)/);
      await until(async () => (await handled()).length > 3000, { deadline: 60_000 });
      const stopping = performance.now();
      worker.kill("SIGTERM");
      const { code } = await worker.ended();
      const took = performance.now() - stopping;
      assert.equal(code, 0, worker.stderr);
      const [, peak] = await worker.line(/^stopped rss (\d+)/);
      const growth = (Number(peak) - Number(before)) / 2 ** 20;
      assert(growth < bound, `it grew by ${growth.toFixed(0)} MiB`);
      assert(took < patient(5000), `it took ${took.toFixed(0)} ms to stop`);
    }
    const first = await handled();
    {
      await using worker = startWorker(context.url, "next", config);
      await until(async () => (await handled()).length > first.length + 200);
      worker.kill("SIGTERM");
      await worker.ended();
    }
    const all = await handled();
    assert.equal(new Set(all).size, all.length, "nothing was handled twice");
  },
);
