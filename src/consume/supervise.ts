/**
 * Keeps a consumer served, over as many connections as necessary.
 *
 * @module
 */

import { backoff, Bell, pause } from "../database/bell.ts";
import { connectionsOf } from "../database/database.ts";
import type { Queryable } from "../database/queryable.ts";
import { Session } from "../database/session.ts";
import { isPassing, messageOf, translate, translated } from "../database/translate.ts";
import { HarkError } from "../errors.ts";
import { getLogger } from "../log/logger.ts";
import { requireSchema, withSchemaReason } from "../schema/migrate.ts";
import type { CheckedOptions, Run } from "./run.ts";
import { requireTransactions } from "./transactions.ts";
import { Waking } from "./waking.ts";
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
  const connections = connectionsOf(db);
  const open = async () => connections === undefined ? db : await connections.session();
  const { consumer } = options.identity;
  const { stopping, abandon, drain } = signals;
  let session = await open();
  const detach: (() => void)[] = [];
  try {
    await requireSchema(session);
    const listener = drain ? undefined : await connections?.listener();
    await register(session, options);
    const wake = new Bell();
    const bell = new Bell(wake);
    const { channels, owner } = options.identity;
    const waking = listener === undefined
      ? undefined
      : new Waking(bell, listener, owner, channels, options.pollInterval);
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
    let failures = 0;
    let storeBy = Infinity;
    // If interrupted while stopping, the worker reconnects for a while if handled notifications are
    // not stored yet.
    while (!stopping.aborted || worker.unstored > 0 && performance.now() < storeBy) {
      const begun = performance.now();
      if (stopping.aborted) storeBy = Math.min(storeBy, begun + storeTimeout);
      try {
        if (session instanceof Session && !session.alive) {
          session = await open();
          await translated(() => session.query("select hark.rebase()"));
        }
        await worker.serve(session);
        break;
      } catch (error) {
        const reason = translate(error);
        if (abandon.aborted && worker.unstored === 0) break;
        if (!isPassing(reason)) throw await withSchemaReason(session, reason);
        if (drain && isLost(reason) || connections === undefined && isOver(reason)) throw reason;
        if (performance.now() - begun > 10_000) failures = 0;
        const wait = Math.round(backoff(++failures, 50, 5000));
        logger.warn("{consumer} was interrupted, trying again in {wait} ms: {reason}", {
          consumer,
          wait,
          reason: messageOf(reason),
        });
        if (session instanceof Session) await session.close();
        await pause(wait, stopping.aborted ? abandon : stopping);
      }
    }
    if (worker.unstored > 0) throw notStored(consumer, worker.unstored);
    return worker.handled;
  } finally {
    for (const end of detach) end();
    if (session instanceof Session) await session.close();
  }
}

/**
 * Whether the error is about the connection. A scheduled drain reports it, and its next run tries
 * again.
 */
function isLost({ code }: HarkError): boolean {
  return code === "UNREACHABLE" || code === "TIMEOUT" || code === "NOT_PRIMARY";
}

/** Whether a caller's own `pg.Client` has ended. Unlike a pool, a client never connects again. */
function isOver(reason: HarkError): boolean {
  return /not queryable/.test(reason.message);
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
    await session.query("select hark.waymark()");
    const { rows: [known] } = await session.query(
      "select pg_catalog.to_json(hark.channels_of($1::text))::text as channels",
      [consumer],
    );
    const { rows: [row] } = await session.query(
      `select pg_catalog.to_json(given_up)::text as given_up, unread
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
      logger.warn("{consumer} now reads the channels {channels}; before, it read {before}", {
        consumer,
        channels,
        before,
      });
    }
    if (row.given_up !== null) {
      logger.warn(
        "{consumer} no longer reads the channels {channels}, and skips {count} notifications there that it had " +
          "not handled; to handle them, register another consumer for these channels",
        { consumer, channels: JSON.parse(row.given_up), count: Number(row.unread) },
      );
    }
  });
}
