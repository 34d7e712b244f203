/**
 * A stand-in for a database that is connected later.
 *
 * Consumers are made before a server is looked for or started. Their ids are known then, and wrong
 * options are refused early.
 *
 * @module
 */

import type { Database } from "../../database/database.ts";
import type { Queryable } from "../../database/queryable.ts";
import { HarkError } from "../../errors.ts";

/** Stands for a database until it is connected. */
export interface DeferredDatabase {
  /** The database to make consumers with. */
  readonly db: Queryable;
  /** Puts this database in its place. */
  become(database: Database): void;
}

/** Makes a stand-in. Queries fail until it becomes a database. */
export function deferredDatabase(): DeferredDatabase {
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
      // Methods use private fields, which a proxy does not have.
      return typeof value === "function" ? value.bind(target) : value;
    },
    has: (_, name) => Reflect.has(target, name),
  }) as Queryable;
  return { db, become: (database) => target = database };
}
