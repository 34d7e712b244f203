/**
 * Another PostgreSQL with Hark as the target of a relay.
 *
 * @module
 */

import { bad, channelName, knownOptions } from "../check.ts";
import type { Notification } from "../consume/notification.ts";
import { DeadLetter } from "../consume/retry.ts";
import type { Database } from "../database/database.ts";
import type { Queryable } from "../database/queryable.ts";
import { messageOf, translated } from "../database/translate.ts";
import { type Duration, durationMs } from "../duration.ts";
import { HarkError } from "../errors.ts";
import { requireSchema } from "../schema/migrate.ts";
import { pause } from "./delivery.ts";
import { isAway } from "./is_away.ts";
import { messageId, nameOf } from "./message.ts";
import {
  Busy,
  type Look,
  Lost,
  type OpenSink,
  type Receipt,
  type RelayMessage,
  type Sink,
  type SinkSetting,
} from "./sink.ts";

/** Options of {@linkcode postgres}. */
export interface PostgresOptions {
  /** The other database, as `connect()` gives it. The relay does not close it. */
  readonly db: Database;
  /**
   * The channel there, for a notification.
   *
   * @default {the same}
   */
  readonly channel?: string | ((notification: Notification) => string);
  /**
   * For how long the other database remembers what was published. An outage or a replay within this
   * time doubles nothing.
   *
   * @default {"7d"}
   */
  readonly remember?: Duration;
}

/** The header with the id of a notification in the database that it came from. */
const header = "hark-relayed";

const aWeek = 7 * 86_400_000;
const tenYears = 315_360_000_000;
/** The first and the longest wait between attempts to reach the other database, in milliseconds. */
const waits = [100, 5_000] as const;

/**
 * Returns a target for {@linkcode relay}: another PostgreSQL with Hark. Notifications keep their key and
 * their headers, with `hark-relayed` for their id here. Each is published there once, by a dedupe key. What
 * such a relay has sent here from that database is not sent back.
 *
 * @throws {HarkError} `BAD_OPTION`.
 * @example
 * ```ts
 * import { connect } from "@hark/postgres";
 * import { postgres, relay } from "@hark/postgres/relay";
 *
 * await using here = await connect(Deno.env.get("DATABASE_URL"));
 * await using there = await connect(Deno.env.get("OTHER_DATABASE_URL"));
 * await relay(here, { id: "to-reports", channels: "orders", to: postgres({ db: there }) }).run();
 * ```
 */
export function postgres(options: PostgresOptions): Sink {
  knownOptions("postgres", options, ["db", "channel", "remember"], "{ db }");
  const { db, channel } = options;
  if (typeof db?.transaction !== "function") bad("db", db, "Give what connect() gives.");
  if (channel !== undefined && typeof channel !== "function") channelName(channel);
  const remember = durationMs("remember", options.remember, aWeek, { least: 1, most: tenYears });
  return {
    kind: "postgres",
    async open(setting: SinkSetting): Promise<OpenSink> {
      await requireSchema(db);
      const install = await installOf(db);
      const isSame = install === await installOf(setting.db);
      if (isSame && channel === undefined) {
        throw new HarkError("DESTINATION", "the other database is this one", {
          remedy: "Give another database, or a channel that the relay does not read.",
        });
      }
      return new OpenPostgres({ db, setting, channel, remember, install, isSame });
    },
  };
}

/** The UUID of the install of Hark in a database. */
async function installOf(db: Queryable): Promise<string> {
  const { rows: [row] } = await translated(() =>
    db.query("select install::text as id from hark.relay_place('', null, '', 0)")
  );
  return row.id;
}

/** What an open target is made of. */
interface Parts {
  readonly db: Database;
  readonly setting: SinkSetting;
  readonly channel: PostgresOptions["channel"];
  readonly remember: number;
  /** The UUID of the install there. */
  readonly install: string;
  /** Whether that is the relay's own. */
  readonly isSame: boolean;
}

interface Waiting {
  readonly message: RelayMessage;
  readonly resolve: (receipt: Receipt) => void;
  readonly reject: (error: unknown) => void;
}

class OpenPostgres implements OpenSink {
  readonly #parts: Parts;
  readonly target: string;
  readonly warnings: readonly string[] = [];
  /** Messages that are published together with the next transaction. */
  #waiting: Waiting[] = [];
  #isBusy = false;
  #losses = 0;
  /** How often it was lost since something was published. */
  #barren = 0;
  #recovering: Promise<ReadonlySet<string>> | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.target = `the database of install ${parts.install}`;
  }

  /** Dedupe keys tell what is there, so no place has to be remembered. */
  get end(): number {
    return 0;
  }

  publishedBehind(): Promise<Look> {
    return Promise.resolve({ ids: new Set<string>(), end: 0 });
  }

  #channelOf({ notification }: RelayMessage): string {
    const { channel, isSame } = this.#parts;
    if (channel === undefined) return notification.channel;
    const there = channelName(typeof channel === "function" ? channel(notification) : channel);
    if (!isSame || there !== notification.channel) return there;
    throw new DeadLetter(
      `${
        nameOf(notification)
      } would be published on its own channel, again and again: change the option channel`,
    );
  }

  /** Whether a relay there has sent it here. Sent back, it would go round for ever. */
  #isFromThere({ notification: { headers } }: RelayMessage): boolean {
    const id = headers[header];
    return typeof id === "string" && id.startsWith(messageId(this.#parts.install, ""));
  }

  describe(message: RelayMessage): string {
    if (this.#isFromThere(message)) {
      return `${nameOf(message.notification)} came from ${this.target}, and is left out`;
    }
    return `${nameOf(message.notification)} to channel "${
      this.#channelOf(message)
    }" of ${this.target}`;
  }

  publish(message: RelayMessage): Promise<Receipt> {
    if (this.#isFromThere(message)) return Promise.resolve({ place: 0, duplicate: true });
    const { promise, resolve, reject } = Promise.withResolvers<Receipt>();
    this.#waiting.push({ message, resolve, reject });
    if (!this.#isBusy) void this.#publishAll();
    return promise;
  }

  /** Publishes what waits, a transaction after another, so that the order holds. */
  async #publishAll(): Promise<void> {
    this.#isBusy = true;
    await Promise.resolve(); // other keys of the batch are about to come
    while (this.#waiting.length > 0) await this.#publishSome(this.#waiting.splice(0, 500));
    this.#isBusy = false;
  }

  async #publishSome(batch: readonly Waiting[]): Promise<void> {
    const items: string[] = [];
    const sent: Waiting[] = [];
    for (const one of batch) {
      try {
        items.push(this.#item(one.message));
        sent.push(one);
      } catch (error) {
        one.reject(error);
      }
    }
    if (sent.length === 0) return;
    try {
      const { rows } = await translated(() =>
        this.#parts.db.query("select id, is_duplicate from hark.notify_each($1::json)", [
          `[${items.join(",")}]`,
        ])
      );
      if (this.#barren > 0) this.#parts.setting.trouble(undefined);
      this.#barren = 0;
      sent.forEach(({ resolve }, i) =>
        resolve({ place: Number(rows[i].id), duplicate: rows[i].is_duplicate === true })
      );
    } catch (error) {
      if (this.#barren > 0 && !isAway(error)) {
        this.#barren = 0;
        this.#parts.setting.trouble(undefined);
      }
      if (sent.length > 1 && !isAway(error)) {
        // One of them is not to be stored there: the others are not to blame.
        for (const one of sent) await this.#publishSome([one]);
        return;
      }
      const reason = this.#reasonOf(error);
      for (const { reject } of sent) reject(reason);
    }
  }

  #reasonOf(error: unknown): unknown {
    if (isAway(error)) {
      return new Lost(`the other database is lost: ${messageOf(error)}`, this.#losses, {
        cause: error,
      });
    }
    const isItsFault = error instanceof HarkError &&
      (["BAD_PAYLOAD", "BAD_CHANNEL", "BAD_OPTION", "NO_PERMISSION"].includes(error.code) ||
        /^(22|54)/.test(error.sqlState ?? "")); // not to be stored there, or too large
    return isItsFault ? error : new Busy(messageOf(error), { cause: error });
  }

  #item(message: RelayMessage): string {
    const { notification: { payloadText, key, headersText }, id } = message;
    // The last of two fields of a name counts.
    const headers = `${headersText.slice(0, -1)}${headersText === "{}" ? "" : ","}` +
      `${JSON.stringify(header)}:${JSON.stringify(id)}}`;
    return `{"channel":${JSON.stringify(this.#channelOf(message))},"payload":${payloadText},` +
      `"key":${JSON.stringify(key)},"headers":${headers},` +
      `"dedupe_key":${JSON.stringify(id)},"within_ms":${this.#parts.remember}}`;
  }

  recover({ connection, message }: Lost): Promise<ReadonlySet<string>> {
    if (connection !== this.#losses) return Promise.resolve(new Set());
    return this.#recovering ??= this.#reach(message).finally(() => {
      this.#losses++;
      this.#recovering = undefined;
    });
  }

  async #reach(message: string): Promise<ReadonlySet<string>> {
    const { trouble, signal } = this.#parts.setting;
    trouble(message);
    // Behind a pooler, another server may answer than the one that is to store.
    if (++this.#barren > 1) await pause(waitOf(this.#barren - 2), signal);
    for (let attempt = 0;; attempt++) {
      try {
        const { rows: [row] } = await translated(() =>
          this.#parts.db.query("show transaction_read_only")
        );
        if (row.transaction_read_only === "off") {
          if (this.#barren < 2) trouble(undefined);
          return new Set();
        }
      } catch (error) {
        trouble(messageOf(error));
      }
      await pause(waitOf(attempt), signal);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.resolve(); // the database is the caller's
  }
}

/** How long to wait before an attempt, in milliseconds. */
function waitOf(attempt: number): number {
  return Math.min(waits[0] * 2 ** attempt, waits[1]);
}
