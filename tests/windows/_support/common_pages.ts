/**
 * Reads one page in common again and again, and keeps the small share of one consumer each time.
 *
 *     common_pages.ts <url> <members> <mark> <count>
 *
 * `members` is what hark.common_window takes. The last one has the small share.
 *
 * @module
 */

import { connect } from "../../../mod.ts";
import { readInCommon, type Share } from "../../../src/consume/read/common_page.ts";
import { markOf } from "../../../src/consume/state/position.ts";

const [url, members, content, count] = Deno.args;
await using db = await connect(url);
const place = { seen: markOf(content), target: undefined, lastId: undefined, afterId: 0 };
const wishes = JSON.parse(members!).map(
  (
    { consumer, owner, channels, held, epochs }: Record<string, string & string[] & number[]>,
  ) => ({
    identity: { consumer, owner, channels, filter: null, transactional: false },
    held: held!.map((number, i) => ({ number, epoch: epochs![i] })),
    partitions: 2,
    place,
  }),
);
const kept: (Share["page"]["rows"])[] = [];
while (kept.length < Number(count)) {
  const shares = await readInCommon(db, wishes, undefined);
  kept.push(shares.at(-1)!.page.rows);
}
const texts = kept.flatMap((rows) => rows.map(({ payload }) => payload));
console.log(`kept ${texts.length} of ${new Set(texts).size}`);
