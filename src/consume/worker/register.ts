/**
 * Registering a consumer.
 *
 * @module
 */

import type { Queryable } from "../../database/queryable.ts";
import { translated } from "../../database/translate.ts";
import { getLogger } from "../../log/logger.ts";
import type { StartValues } from "../start.ts";
import type { CheckedOptions } from "../state/context.ts";
import { parsePosition } from "../state/parse_outside.ts";
import { shellWord } from "../../visible.ts";

const logger = getLogger(["hark", "consumer"]);

/** A position from outside, as hark.register takes it: JSON of a list. Null for other starts. */
function placeOf([, , , text]: StartValues): string | null {
  if (text === undefined) return null;
  const { install, seen, target, lastId, afterId } = parsePosition("from.position", text);
  return JSON.stringify([install, seen, target, lastId, afterId]);
}

/** Registers a consumer, or stores another definition of it, and tells what that skips. */
export async function register(session: Queryable, options: CheckedOptions): Promise<void> {
  const { consumer, channels, filter, transactional } = options.identity;
  await translated(async () => {
    const { rows: [row] } = await session.query(
      // The channels as they were before: a stable function sees what the statement has found.
      `select (select pg_catalog.to_json(hark.channels_of($1::text))::text) as channels,
        pg_catalog.to_json(given_up)::text as given_up, unread, unread_from,
        skipped, skipped_from, repeats, gap
       from hark.register($1::text, array(select pg_catalog.json_array_elements_text($2::text::json)),
        $3::text, $4::bigint, $5::text::timestamptz, $6::text::jsonb, $7::boolean, $8::integer,
        $9::text::jsonb, $10::integer,
        array(select pg_catalog.json_array_elements_text($11::text::json)))`,
      [
        consumer,
        JSON.stringify(channels),
        ...options.start.slice(0, 3),
        filter,
        transactional,
        options.partitions,
        options.channelStarts,
        options.version,
        placeOf(options.start),
      ],
    );
    if (row.channels === null) {
      logger.info("{consumer} is registered", { consumer });
      if (row.gap !== null) {
        logger.warn(
          "{consumer} begins at a position behind which notifications up to {gap} were cleaned, or may have been",
          { consumer, gap: row.gap },
        );
      }
      return;
    }
    // Null if the stored definition stays: it is the same one, or has a higher version.
    if (row.skipped === null) return;
    const before: string[] = JSON.parse(row.channels);
    if (JSON.stringify(before.toSorted()) !== JSON.stringify(channels.toSorted())) {
      const added = channels.filter((channel) => !before.includes(channel));
      logger.warn("{consumer} now reads the channels {channels}; before, it read {before}{more}", {
        consumer,
        channels,
        before,
        more: Number(row.skipped) === 0
          ? ""
          : `. It skips ${countOf(row.skipped)} published on ${
            added.join(", ")
          } earlier. To handle them: ${replayOf(consumer, row.skipped_from, added)}`,
      });
    }
    if (row.given_up !== null) {
      const channels: string[] = JSON.parse(row.given_up);
      logger.warn(
        "{consumer} no longer reads the channels {channels}, and skips {what} there that it had not handled; to " +
          "handle them, register another consumer for these channels, or read them again and then: {replay}",
        {
          consumer,
          channels,
          count: Number(row.unread),
          what: countOf(row.unread),
          replay: replayOf(consumer, row.unread_from, channels),
        },
      );
    }
  });
}

/** The command that replays channels from an id on. */
function replayOf(consumer: string, from: unknown, channels: readonly string[]): string {
  const wanted = channels.map((channel) => ` --channel ${shellWord(channel)}`).join("");
  return `hark replay ${shellWord(consumer)} --from ${from}${wanted}`;
}

function countOf(count: unknown): string {
  return `${count} notification${Number(count) === 1 ? "" : "s"}`;
}
