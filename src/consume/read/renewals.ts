/**
 * Renews the sleep of all readers of a process in one statement, where no heartbeat does so.
 *
 * @module
 */

import { pause } from "../../database/bell.ts";
import type { Listener } from "../../database/listener.ts";
import type { Queryable } from "../../database/queryable.ts";
import { translated } from "../../database/translate.ts";

interface Asking {
  readonly sleeper: string;
  readonly answer: PromiseWithResolvers<number>;
}

/** What is asked on each LISTEN session, and not sent yet. */
const askingOf = new WeakMap<Listener, Asking[]>();

/**
 * Keeps a reader asleep, with all others of its process that ask at the same time.
 *
 * @returns for how many channels it slept on until now.
 */
export async function stayAsleep(
  session: Queryable,
  listener: Listener,
  key: bigint,
  sleeper: string,
  lasting: number,
): Promise<number> {
  const answer = Promise.withResolvers<number>();
  const known = askingOf.get(listener);
  if (known !== undefined) {
    known.push({ sleeper, answer });
    return await answer.promise;
  }
  const asking: Asking[] = [{ sleeper, answer }];
  askingOf.set(listener, asking);
  await pause(0); // timers of others that end now ask in the same call
  askingOf.delete(listener);
  try {
    const { rows } = await translated(() =>
      session.query(
        "select sleeper::text as sleeper, channels from hark.stay_asleep($1::text::uuid[], $2::bigint, $3::integer)",
        [`{${asking.map((one) => one.sleeper).join(",")}}`, String(key), lasting],
      )
    );
    const renewed = new Map(rows.map((row) => [row.sleeper, Number(row.channels)]));
    for (const one of asking) one.answer.resolve(renewed.get(one.sleeper) ?? 0);
  } catch (error) {
    // The connection that this reader asked on is no reason to interrupt the others: each asks itself.
    for (const one of asking.slice(1)) one.answer.resolve(0);
    throw error;
  }
  return await answer.promise;
}
