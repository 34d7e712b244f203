/**
 * Writers that do to tables whatever SQL has for it, at random, and undo some of it.
 *
 * @module
 */

import { type Client, connect, disconnect } from "../../harness/mod.ts";
import type { Kind } from "./rebuild_tables.ts";

/** What a writer did. */
export interface Written {
  committed: number;
  rolledBack: number;
  /** Refused by the server, by SQLSTATE: keys that were taken, deadlocks. */
  refused: Record<string, number>;
}

/** Something at random, out of a seed. */
export type Dice = (below: number) => number;

/** Writes to the tables until the time is over. */
export async function write(
  url: string,
  kinds: readonly Kind[],
  dice: Dice,
  ms: number,
): Promise<Written> {
  const written: Written = { committed: 0, rolledBack: 0, refused: {} };
  const end = performance.now() + ms;
  const client = await connect(url);
  try {
    await client.query("set deadlock_timeout = '20ms'; set timezone = 'Asia/Kathmandu'");
    const { rows: [{ version }] } = await client.query(
      "select current_setting('server_version_num')::int as version",
    );
    while (performance.now() < end) {
      const statements = plan(kinds, dice, version);
      // A victim of a deadlock does the same again, as a program would.
      for (let attempt = 0; attempt < 3; attempt++) {
        if (!await run(client, statements, written)) break;
      }
    }
  } finally {
    await disconnect(client);
  }
  return written;
}

/** Has a table watched anew, by statement and by row in turn, until the time is over; gives how often. */
export async function watchAgain(url: string, { name, watch }: Kind, ms: number): Promise<number> {
  const end = performance.now() + ms;
  const client = await connect(url);
  let times = 0;
  try {
    await client.query("set lock_timeout = '300ms'");
    while (performance.now() < end) {
      const level = times % 2 === 0 ? "row" : "statement";
      try {
        await client.query(
          `select hark.watch('${name}', ${watch}, level => '${level}')`,
        );
        times++;
        await client.query("select pg_sleep(0.1)"); // so that others write between
      } catch (error) {
        // Those who write are in the way, at times.
        if (!["55P03", "40P01"].includes((error as { code: string }).code)) throw error;
      }
    }
  } finally {
    await disconnect(client);
  }
  return times;
}

/** Runs a transaction; whether it is to be tried again. */
async function run(client: Client, statements: string[], written: Written): Promise<boolean> {
  try {
    for (const statement of statements) await client.query(statement);
    if (statements.at(-1) === "commit") written.committed++;
    else written.rolledBack++;
    return false;
  } catch (error) {
    const { code } = error as { code?: string };
    // Taken keys, deadlocks, ON CONFLICT or MERGE that meet a row twice, and rows that another moved.
    if (!["23505", "40P01", "21000", "40001"].includes(code ?? "")) throw error;
    written.refused[code!] = (written.refused[code!] ?? 0) + 1;
    await client.query("rollback");
    return code === "40P01";
  }
}

/** A transaction. */
function plan(kinds: readonly Kind[], dice: Dice, version: number): string[] {
  const some = () => statement(kinds[dice(kinds.length)]!, dice, version);
  const statements = [dice(8) === 0 ? "begin isolation level repeatable read" : "begin"];
  for (let n = dice(4); n >= 0; n--) {
    if (dice(5) > 0) statements.push(some());
    else {
      statements.push("savepoint s", some(), some());
      statements.push(dice(2) === 0 ? "rollback to s" : "release s", some());
    }
  }
  statements.push(dice(10) === 0 ? "rollback" : "commit");
  return statements;
}

function statement(kind: Kind, dice: Dice, version: number): string {
  const { name, keys } = kind;
  const key = () => kind.key(dice);
  const where = () => `(${keys}) = (${key()})`;
  const rest = () =>
    `${dice(9)}, '${"x".repeat(dice(4))}', timestamptz '2026-01-01' + ${
      dice(99)
    } * interval '1 h', ` +
    `'{"n": [${dice(9)}, null]}', 's${dice(3)}'`;
  const columns = `(${keys}, v, note, at, data, secret)`;
  const rows = (count: number) =>
    Array.from({ length: count }, () => `(${key()}, ${rest()})`).join(", ");
  const door = kind.doors !== undefined && dice(3) === 0
    ? kind.doors[dice(kind.doors.length)]!
    : name;
  const upsert = kind.upsert ?? !kind.keyless;
  const ignore = upsert ? "on conflict do nothing" : "";
  switch (dice(14)) {
    case 0:
    case 1:
    case 2:
      return `insert into ${name} ${columns} values ${rows(1 + dice(12))} ${ignore}`;
    case 3:
      return upsert
        ? `insert into ${name} as o ${columns} values ${rows(1 + dice(3))} on conflict (${keys})
            do update set v = coalesce(o.v, 0) + excluded.v, note = excluded.note`
        : `insert into ${name} ${columns} values ${rows(1)}`;
    case 4: // which cannot move a row to another partition
      return upsert && kind.doors === undefined
        ? `insert into ${name} as o ${columns} values ${rows(1)} on conflict (${keys})
            do update set ${keys.split(",")[0]} = o.${keys.split(",")[0]} + 40, v = excluded.v`
        : `update ${name} set v = v where v > ${dice(9)}`;
    case 5:
      return `update ${door} set v = v + 1, at = at + interval '1 day' where ${where()}`;
    case 6:
      return `update ${door} set v = nullif(v, ${dice(9)}), data = null where v % 5 = ${dice(5)}`;
    case 7:
      return `update ${door} set v = v, note = note || 'é', secret = 't' where v = ${dice(9)}`;
    case 8:
    case 9:
      return kind.shift(dice);
    case 10:
      return `delete from ${door} where ${where()}`;
    case 11:
      return `delete from ${door} where v % 4 = ${dice(4)}`;
    case 12:
      return dice(12) === 0 ? `truncate ${door}` : `with gone as (
        delete from ${name} where v = ${dice(9)} returning ${keys}, v, note, at, data, secret
      ) insert into ${name} ${columns} select ${keys}, -1, note, at, data, secret from gone`;
    default:
      if (version < 150000 || kind.keyless) return `update ${name} set secret = 'u'`;
      return `merge into ${name} as t using (values ${rows(1 + dice(4))})
          as s ${columns} on (${keys.split(", ").map((k) => `t.${k} = s.${k}`).join(" and ")})
        when matched and t.v > 6 then delete
        when matched then update set v = s.v, note = s.note, data = s.data::jsonb
        when not matched then insert ${columns} values
          (${
        keys.split(", ").map((k) => `s.${k}`).join(", ")
      }, s.v, s.note, s.at, s.data::jsonb, s.secret)`;
  }
}
