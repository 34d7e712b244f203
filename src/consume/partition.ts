/**
 * A partition of a consumer while this process owns it: read, acknowledge, renew, release.
 *
 * @module
 */

import { toId } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { type Page, pageColumns, type PageLimits, parsePage, spanWorthStoring } from "./page.ts";

/** Who asks for a partition. */
export interface Claimant {
  readonly consumer: string;
  readonly partition: number;
  /** Random, one for each run of a consumer. */
  readonly owner: string;
  /** How long the claim holds without a sign of life, in milliseconds. */
  readonly lease: number;
}

/** The answer to a claim that was not granted. */
export interface Refusal {
  /** `held`: another's lease runs. `gone`: it runs, but the session behind it has ended. */
  readonly outcome: "held" | "gone";
  /** When asking again may help, in milliseconds. */
  readonly wait: number;
}

const readSql = `select ${pageColumns}
from hark.window($1::text, $2::integer, $3::uuid, $4::bigint, $5::text::hark.position) w,
lateral hark.window_read(w."position", w.channels, $6::integer, $7::bigint, $8::integer,
 $9::text::pg_snapshot) r`;

/** A partition that is owned under an epoch. Windows live in here, so it lives no longer than its session. */
export class OwnedPartition {
  /** Rises with each claim; what an earlier one still sends is refused. */
  readonly epoch: number;
  /** What was visible when it was claimed. */
  readonly claimedAt: string;
  /** Of the server: another after a crash or a fail-over, where ids may be given out again. */
  readonly incarnation: string;
  /** The notification that was failing when it was claimed, and how often it had. */
  readonly failing: { readonly id: number; readonly attempts: number } | undefined;
  readonly #session: Queryable;
  readonly #claimant: Claimant;
  /** As stored, or after pages read since: where the next page begins. */
  #position: string;
  /** Where an empty window is thrown away to. */
  #beforeWindow: string;
  #inWindow: boolean;
  /** Whether the open window holds something to store: a stored part of it, or rows read. */
  #dirty: boolean;
  /** How many ids the open window spans, at the most of its pages. */
  #span = 0;
  #renewedAt = performance.now();

  // deno-lint-ignore no-explicit-any -- a row as drivers return it
  private constructor(session: Queryable, claimant: Claimant, row: any) {
    this.#session = session;
    this.#claimant = claimant;
    this.#position = this.#beforeWindow = row.position;
    this.#inWindow = this.#dirty = row.in_window;
    this.epoch = toId(row.epoch);
    this.claimedAt = row.started;
    this.incarnation = row.incarnation;
    this.failing = row.failing_id === null
      ? undefined
      : { id: toId(row.failing_id), attempts: Number(row.attempts) };
  }

  /** Asks for a partition. @throws {HarkError} `NO_CONSUMER` where there is none of that name. */
  static async claim(
    session: Queryable,
    claimant: Claimant,
    sessionKey: bigint | undefined,
    presumeGone: boolean,
  ): Promise<OwnedPartition | Refusal> {
    const { rows } = await translated(() =>
      session.query(
        `select outcome, epoch, wait_ms, "position", in_window, started, failing_id, attempts,
          incarnation
         from hark.claim($1::text, $2::integer, $3::uuid, $4::bigint, $5::integer, $6::boolean)`,
        [
          claimant.consumer,
          claimant.partition,
          claimant.owner,
          sessionKey === undefined ? null : String(sessionKey),
          claimant.lease,
          presumeGone,
        ],
      )
    );
    const row = rows[0];
    return row.outcome === "claimed"
      ? new OwnedPartition(session, claimant, row)
      : { outcome: row.outcome, wait: Number(row.wait_ms) };
  }

  /** Whether the next page belongs to a window that is open already. */
  get inWindow(): boolean {
    return this.#inWindow;
  }

  /** How long ago the lease was last renewed, in milliseconds. */
  get sinceRenewal(): number {
    return performance.now() - this.#renewedAt;
  }

  /** Reads the next page, of the open window or of a new one. */
  async read(limits: PageLimits, started: string): Promise<Page> {
    const { rows } = await this.#query(readSql, [
      this.#position,
      limits.rows,
      limits.bytes,
      limits.scanned,
      started,
    ]);
    const page = parsePage(rows);
    this.#position = page.position;
    this.#inWindow = !page.windowEnd;
    this.#span = Math.max(this.#span, page.span);
    if (page.rows.length > 0) this.#dirty = true;
    return page;
  }

  /**
   * Throws away a window that was empty altogether, so that idle reading writes nothing. Refuses, with
   * false, where it holds something to store or spans so many ids that the next one should not rescan them.
   */
  discardWindow(): boolean {
    if (this.#dirty || this.#span > spanWorthStoring) return false;
    this.#position = this.#beforeWindow;
    this.#span = 0;
    return true;
  }

  /**
   * Stores that `handled` more notifications are done with: all of the pages read, or those through
   * an id of the last one.
   */
  async acknowledge(handled: number, through?: number): Promise<void> {
    const sent = performance.now();
    const { rows } = await this.#query(
      `select hark.acknowledge($1::text, $2::integer, $3::uuid, $4::bigint, $5::text::hark.position,
        $6::bigint, $7::integer, $8::bigint) as "position"`,
      [this.#position, handled, this.#claimant.lease, through ?? null],
    );
    this.#renewedAt = sent;
    if (through !== undefined) return;
    this.#position = this.#beforeWindow = rows[0].position;
    this.#dirty = this.#inWindow;
    this.#span = 0;
  }

  /** Renews the lease; without a session's key, that session counts no longer and the lease alone does. */
  async renew(sessionKey: bigint | undefined): Promise<void> {
    const sent = performance.now();
    await this.#query(
      "select hark.renew($1::text, $2::integer, $3::uuid, $4::bigint, $5::integer, $6::bigint)",
      [this.#claimant.lease, sessionKey === undefined ? null : String(sessionKey)],
    );
    this.#renewedAt = sent;
  }

  /** Stores that a notification has failed, how often, and why. */
  async recordFailure(id: number, attempt: number, error: string): Promise<void> {
    await this.#query(
      `select hark.record_failure($1::text, $2::integer, $3::uuid, $4::bigint, $5::bigint,
        $6::integer, $7::text)`,
      [id, attempt, error.replaceAll("\0", "\uFFFD").toWellFormed()],
    );
  }

  /** Gives the partition back. */
  async release(): Promise<void> {
    await this.#query(
      "select hark.release($1::text, $2::integer, $3::uuid, $4::bigint)",
      [],
    );
  }

  async #query(text: string, values: unknown[]) {
    const { consumer, partition, owner } = this.#claimant;
    return await translated(() =>
      this.#session.query(text, [consumer, partition, owner, this.epoch, ...values])
    );
  }
}
