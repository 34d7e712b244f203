/**
 * A transaction as a program's function sees it.
 *
 * @module
 */

import { HarkError } from "../errors.ts";
import { sqlState } from "./driver_error.ts";
import { lent, type Place, placed, type Queryable, type QueryResult } from "./queryable.ts";
import { messageOf, translate } from "./translate.ts";

/** PostgreSQL's answer to any statement in a transaction in which one has failed. */
const inFailed = "25P02";

/**
 * What a program queries in a transaction. After the transaction's end it refuses queries, so that none
 * slips into the next one of its connection.
 */
export class OpenTransaction implements Queryable {
  readonly [lent] = true;
  readonly [placed]: Place | undefined;
  readonly #run: Queryable["query"];
  #over = false;
  /** The last error of a statement. If a later one finds the transaction failed, it is why. */
  #failure: unknown;

  /** @param place Where the connection leads; undefined if it is not known. */
  constructor(run: Queryable["query"], place?: Place) {
    this.#run = run;
    this[placed] = place;
  }

  /** Whether it refuses queries. */
  get over(): boolean {
    return this.#over;
  }

  async query(text: string, values: unknown[] = []): Promise<QueryResult> {
    if (this.#over) {
      throw new HarkError("CONFLICT", "this transaction is over", {
        remedy: "Await every query before the function or the handler of the transaction returns.",
      });
    }
    try {
      return await this.#run(text, values);
    } catch (error) {
      if (sqlState(error) !== inFailed) this.#failure = error;
      throw translate(error);
    }
  }

  /** Ends it: what is queried later is refused. */
  end(): void {
    this.#over = true;
  }

  /** The error to throw for one of the commit: if the transaction had failed before, it says why. */
  reasonFor(error: unknown): unknown {
    return sqlState(error) === inFailed ? this.rolledBack() : error;
  }

  /** That the server has rolled back, as a statement failed and its error was caught. */
  rolledBack(): HarkError {
    const cause = this.#failure;
    const reason = cause === undefined ? "" : ` (${messageOf(cause)})`;
    return new HarkError(
      "DATABASE",
      `the transaction was rolled back: a statement in it failed, and its error was caught${reason}`,
      { remedy: "Throw that error on, or run the statement behind a savepoint.", cause },
    );
  }
}
