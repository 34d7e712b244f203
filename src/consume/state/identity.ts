/**
 * What a worker is, and what it claims.
 *
 * @module
 */

import type { Position } from "./position.ts";

/** A worker's identity, and the definition of the consumer that it was started with. */
export interface Identity {
  readonly consumer: string;
  /** A random uuid, new for each run of a consumer. */
  readonly owner: string;
  /** How long a claim lasts without a heartbeat, in milliseconds. */
  readonly lease: number;
  readonly channels: readonly string[];
  /** JSON text, or null. */
  readonly filter: string | null;
  readonly transactional: boolean;
}

/** A partition that was claimed: see hark.claim. */
export interface Claimed {
  readonly partition: number;
  readonly epoch: number;
  readonly position: Position;
  readonly crashes: number;
  readonly suspectId: number | undefined;
  readonly suspectEnds: number;
  readonly incarnation: string;
}

/** Partitions, and the epochs under which the worker owns them. */
export type Held = readonly { readonly number: number; readonly epoch: number }[];

/** Writes an array of numbers as PostgreSQL does. */
export function numbersText(values: readonly number[]): string {
  return `{${values.join(",")}}`;
}
