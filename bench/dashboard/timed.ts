/**
 * A database with a clock at each statement.
 *
 * @module
 */

import type { Database, Queryable } from "@hark/postgres";
import { round, say } from "../flags.ts";

/** A statement that takes longer than this is told, in ms. */
const slow = 200;

/** A database, and how long its statements took. */
export interface Timed {
  readonly db: Database;
  /** The times of all statements since they were last taken, in ms. */
  take(): number[];
}

/** Puts the clock around a database. */
export function timed(db: Database): Timed {
  let statements: number[] = [];
  async function timing<T>(text: string, run: () => Promise<T>): Promise<T> {
    const begun = performance.now();
    try {
      return await run();
    } finally {
      const took = performance.now() - begun;
      statements.push(took);
      if (took > slow) say(`${round(took)} ms: ${text.replaceAll(/\s+/g, " ").slice(0, 180)}`);
    }
  }
  const clocked = (on: Queryable): Queryable => ({
    query: (text, values) => timing(text, () => on.query(text, values)),
  });
  return {
    db: new Proxy(db, {
      get(target, name) {
        if (name === "query") return clocked(target).query;
        if (name === "transaction") {
          return (work: (tx: Queryable) => Promise<unknown>) =>
            target.transaction((tx) => work(clocked(tx)));
        }
        const value = Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    }),
    take() {
      const taken = statements;
      statements = [];
      return taken;
    },
  };
}
