/**
 * Keeps a consumer served, over as many connections as necessary.
 *
 * @module
 */

import { getLogger } from "../../log/logger.ts";
import { Bell } from "../../database/bell.ts";
import type { Queryable } from "../../database/queryable.ts";
import { messageOf, translate, translated } from "../../database/translate.ts";
import { HarkError } from "../../errors.ts";
import { requireTransactions } from "../dispatch/transactions.ts";
import { Link } from "../link.ts";
import { Wakeup } from "../read/wakeup.ts";
import type { CheckedOptions, Run } from "../state/context.ts";
import { Worker } from "./worker.ts";

const logger = getLogger(["hark", "consumer"]);

/** How long a stopping worker tries to reconnect, to store what is handled, in milliseconds. */
const storeTimeout = 5000;

/**
 * Registers a consumer and serves it until stopped or drained. The first connection must succeed.
 * Later connections are tried for as long as necessary.
 *
 * @returns how many notifications were handled.
 */
export async function supervise(
  db: Queryable,
  options: CheckedOptions,
  signals: Pick<Run, "stopping" | "abandon" | "drain" | "ready">,
): Promise<number> {
  // Before registration: the consumer must not be registered as something it cannot be.
  if (options.identity.transactional) requireTransactions(db);
  const { consumer, channels, owner } = options.identity;
  const { stopping, abandon, drain } = signals;
  const link = await Link.open(db);
  const detach: (() => void)[] = [];
  try {
    const listener = drain ? undefined : await link.connections?.listener();
    await register(link.session, options);
    const wake = new Bell();
    const bell = new Bell(wake);
    const waking = listener === undefined
      ? undefined
      : new Wakeup(bell, listener, owner, channels, options.pollInterval);
    const run: Run = { ...signals, wake, bell, control: new Bell(wake), listener, waking };
    if (listener !== undefined) {
      detach.push(
        listener.attach(waking!.heard, channels),
        listener.attachControl(run.control, consumer),
      );
    }
    const ring = () => wake.ring();
    for (const signal of [stopping, abandon]) {
      signal.addEventListener("abort", ring);
      detach.push(() => signal.removeEventListener("abort", ring));
    }
    await using worker = new Worker(db, options, run, (on) => register(on, options));
    let storeBy = Infinity;
    // If interrupted while stopping, the worker reconnects for a while if handled notifications are
    // not stored yet.
    while (!stopping.aborted || worker.unstored > 0 && performance.now() < storeBy) {
      if (stopping.aborted) storeBy = Math.min(storeBy, performance.now() + storeTimeout);
      try {
        await worker.serve(link.alive());
        break;
      } catch (error) {
        if (abandon.aborted && worker.unstored === 0) break;
        if (drain && isLost(translate(error))) throw translate(error);
        await link.failed(error, stopping.aborted ? abandon : stopping, (reason, wait) => {
          logger.warn("{consumer} was interrupted, trying again in {wait} ms: {reason}", {
            consumer,
            wait,
            reason: messageOf(reason),
          });
        });
      }
    }
    if (worker.unstored > 0) throw notStored(consumer, worker.unstored);
    return worker.handled;
  } finally {
    for (const end of detach) end();
    await link.close();
  }
}

/**
 * Whether the error is about the connection. A scheduled drain reports it, and its next run tries
 * again.
 */
function isLost({ code }: HarkError): boolean {
  return code === "UNREACHABLE" || code === "TIMEOUT" || code === "NOT_PRIMARY";
}

function notStored(consumer: string, count: number): HarkError {
  return new HarkError(
    "UNREACHABLE",
    `consumer "${consumer}" stopped, but could not store that ${count} notifications were handled`,
    { remedy: "They will be handled again. The log says why there was no connection." },
  );
}

async function register(session: Queryable, options: CheckedOptions): Promise<void> {
  const { consumer, channels, filter, transactional } = options.identity;
  await translated(async () => {
    await session.query("select hark.rebase()");
    const { rows: [known] } = await session.query(
      "select pg_catalog.to_json(hark.channels_of($1::text))::text as channels",
      [consumer],
    );
    const { rows: [row] } = await session.query(
      `select pg_catalog.to_json(given_up)::text as given_up, unread,
        skipped, skipped_from
       from hark.register($1::text, array(select pg_catalog.json_array_elements_text($2::text::json)),
        $3::text, $4::bigint, $5::text::timestamptz, $6::text::jsonb, $7::boolean, $8::integer,
        $9::text::jsonb, $10::integer)`,
      [
        consumer,
        JSON.stringify(channels),
        ...options.start,
        filter,
        transactional,
        options.partitions,
        options.channelStarts,
        options.version,
      ],
    );
    if (known.channels === null) {
      logger.info("{consumer} is registered", { consumer });
      return;
    }
    const before: string[] = JSON.parse(known.channels);
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
          } earlier. To handle ` +
            `them: hark replay ${consumer} --from ${row.skipped_from}` +
            added.map((channel) => ` --channel ${channel}`).join(""),
      });
    }
    if (row.given_up !== null) {
      logger.warn(
        "{consumer} no longer reads the channels {channels}, and skips {what} there that it had not handled; to " +
          "handle them, register another consumer for these channels, or read them again and then: " +
          "hark replay {consumer} --from ID",
        {
          consumer,
          channels: JSON.parse(row.given_up),
          count: Number(row.unread),
          what: countOf(row.unread),
        },
      );
    }
  });
}

function countOf(count: unknown): string {
  return `${count} notification${Number(count) === 1 ? "" : "s"}`;
}
