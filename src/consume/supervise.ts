/**
 * Keeps a consumer served over as many connections as it takes.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { backoff, Bell, pause } from "../database/bell.ts";
import { connectionsOf } from "../database/database.ts";
import type { Queryable } from "../database/queryable.ts";
import { Session } from "../database/session.ts";
import { isPassing, messageOf, translate, translated } from "../database/translate.ts";
import type { HarkError } from "../errors.ts";
import { requireSchema } from "../schema/migrate.ts";
import type { CheckedOptions } from "./options.ts";
import { type Run, serve } from "./worker.ts";

const logger = getLogger(["hark", "consumer"]);

/**
 * Registers a consumer and serves it until stopped or drained. The first connection must succeed; a
 * later one is tried for as long as it takes.
 *
 * @returns how many notifications were handled.
 */
export async function supervise(
  db: Queryable,
  options: CheckedOptions,
  signals: Pick<Run, "stopping" | "abandon" | "drain">,
): Promise<number> {
  const connections = connectionsOf(db);
  const open = async () => connections === undefined ? db : await connections.session();
  const { consumer } = options.claimant;
  const { stopping, abandon, drain } = signals;
  let session = await open();
  let detach = () => {};
  try {
    await requireSchema(session);
    const listener = drain ? undefined : await connections?.listener();
    await register(session, options);
    const bell = new Bell();
    detach = listener?.attach(bell, options.channels) ?? detach;
    const run: Run = {
      ...signals,
      bell,
      listener,
      started: undefined,
      handled: 0,
      pending: { epoch: 0, ids: new Set() },
      waymark: { at: performance.now(), handled: 0 },
    };
    let failures = 0;
    while (!stopping.aborted) {
      const begun = performance.now();
      try {
        if (session instanceof Session && !session.alive) {
          session = await open();
          await translated(() => session.query("select hark.rebase()"));
        }
        if (await serve(session, options, run)) break;
        failures = 0;
      } catch (error) {
        const reason = translate(error);
        if (abandon.aborted) break;
        if (!isPassing(reason)) throw reason;
        if (drain && isLost(reason) || connections === undefined && isOver(reason)) throw reason;
        if (performance.now() - begun > 10_000) failures = 0;
        const wait = Math.round(backoff(++failures, 50, 5000));
        logger.warn("{consumer} was interrupted, again in {wait} ms: {reason}", {
          consumer,
          wait,
          reason: messageOf(reason),
        });
        // Whatever window was open is forgotten with its connection.
        if (session instanceof Session) await session.close();
        await pause(wait, stopping);
      }
    }
    return run.handled;
  } finally {
    detach();
    if (session instanceof Session) await session.close();
  }
}

/** Whether the connection is the trouble: a scheduled drain reports that, and its next turn tries again. */
function isLost({ code }: HarkError): boolean {
  return code === "UNREACHABLE" || code === "TIMEOUT" || code === "NOT_PRIMARY";
}

/** Whether a caller's own `pg.Client` has ended: unlike a pool it never comes back. */
function isOver(reason: HarkError): boolean {
  return /not queryable/.test(reason.message);
}

async function register(session: Queryable, options: CheckedOptions): Promise<void> {
  const { consumer } = options.claimant;
  await translated(async () => {
    await session.query("select hark.rebase()");
    await session.query("select hark.waymark()");
    const { rows } = await session.query(
      `select hark.register($1::text, array(select pg_catalog.json_array_elements_text($2::text::json)),
        $3::text, $4::bigint, $5::text::timestamptz) as registered`,
      [consumer, JSON.stringify(options.channels), ...options.start],
    );
    if (rows[0].registered) logger.info("{consumer} is registered", { consumer });
  });
}
