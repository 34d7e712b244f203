/**
 * A database that is known only later.
 *
 * Consumers are made, so that their ids are known and wrong ones refused, before a server is looked
 * for or started.
 *
 * @module
 */

import type { Database } from "../../database/database.ts";
import type { Queryable } from "../../database/queryable.ts";
import { HarkError } from "../../errors.ts";

/** Stands for a database until there is one. */
export interface LateDatabase {
  /** What consumers are made on. */
  readonly db: Queryable;
  /** Has it be this one from now on. */
  become(database: Database): void;
}

/** Makes a stand-in that does nothing until it becomes a database. */
export function lateDatabase(): LateDatabase {
  let target: object = {
    query: () =>
      Promise.reject(
        new HarkError("UNREACHABLE", "the database is not connected yet", {
          remedy: "Use it when the consumer runs, not when it is made.",
        }),
      ),
  };
  const db = new Proxy({}, {
    get(_, name) {
      const value: unknown = Reflect.get(target, name, target);
      // Methods reach private fields, which a proxy does not have.
      return typeof value === "function" ? value.bind(target) : value;
    },
    has: (_, name) => Reflect.has(target, name),
  }) as Queryable;
  return { db, become: (database) => target = database };
}
