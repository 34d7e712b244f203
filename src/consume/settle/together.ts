/**
 * Stores the progress of all workers of a process in one statement.
 *
 * @module
 */

import { queryPrepared } from "../../database/prepared.ts";
import { type OwnConnection, ownConnection, type Queryable } from "../../database/queryable.ts";
import { translate, translated } from "../../database/translate.ts";

const aloneSql = `select hark.acknowledge($1::text, $2::uuid,
 $3::text::integer[], $4::text::bigint[],
 array(select m.content::hark.marks from pg_catalog.json_array_elements_text($5::text::json) m (content)),
 pg_catalog.string_to_array($6::text, ',', '')::bigint[], pg_catalog.string_to_array($7::text, ',', '')::bigint[],
 pg_catalog.string_to_array($8::text, ',', '')::bigint[], pg_catalog.string_to_array($9::text, ',', '')::bigint[],
 $10::text::bigint[], $11::text::boolean[], $12::text::json, $13::boolean) as stored`;

const togetherSql =
  "select n, state, message, hint from hark.acknowledge_all($1::text::json) order by n";

/** The arguments of hark.acknowledge, as text. */
export type Progress = readonly (string | null)[];

interface Asking {
  readonly progress: Progress;
  readonly answer: PromiseWithResolvers<boolean>;
}

interface Line {
  asking: Asking[];
  sent: Promise<void> | undefined;
}

const lines = new WeakMap<object, Line>();

/**
 * Stores the progress of a worker. All workers that share their connections, and whose progress is due
 * while an acknowledgement is on its way, have the next one in common.
 *
 * @param patient Whether to wait for a handler's transaction that is about to commit. Such a call is
 *   one of its own.
 * @returns whether it is stored. False if such a transaction holds a partition.
 */
export async function acknowledge(
  session: Queryable,
  progress: Progress,
  patient: boolean,
): Promise<boolean> {
  const own = ownConnection(session);
  if (own?.sibling === undefined || patient) return await alone(session, progress, patient);
  const known = lines.get(own.shared);
  const line = known ?? { asking: [], sent: undefined };
  if (known === undefined) lines.set(own.shared, line);
  const answer = Promise.withResolvers<boolean>();
  line.asking.push({ progress, answer });
  if (line.asking.length === 1) {
    // The worker that asks first may stop before the answer comes.
    const on = own.sibling();
    void (line.sent ?? Promise.resolve()).then(() => {
      const { asking } = line;
      line.asking = [];
      const sent = together(on, asking).finally(() => {
        if (line.sent === sent) line.sent = undefined;
      });
      line.sent = sent;
    });
  }
  return await answer.promise;
}

async function alone(session: Queryable, progress: Progress, patient: boolean): Promise<boolean> {
  const { rows } = await translated(() => queryPrepared(session, aloneSql, [...progress, patient]));
  return rows[0].stored;
}

/** Never rejects: each worker is told what became of its part. */
async function together(session: OwnConnection, asking: readonly Asking[]): Promise<void> {
  let rows;
  try {
    if (asking.length === 1) {
      const isStored = await alone(session, asking[0]!.progress, false);
      rows = [{ state: isStored ? null : "55P03" }];
    } else {
      ({ rows } = await translated(() =>
        queryPrepared(session, togetherSql, [
          JSON.stringify(asking.map(({ progress }) => progress)),
        ])
      ));
    }
  } catch (error) {
    await session.close();
    for (const { answer } of asking) answer.reject(error);
    return;
  }
  await session.close();
  for (const [i, { answer }] of asking.entries()) {
    const { state, message, hint } = rows[i]!;
    if (state === null || state === "55P03") answer.resolve(state === null);
    else answer.reject(translate(Object.assign(new Error(message), { code: state, hint })));
  }
}
