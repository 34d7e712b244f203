/**
 * What a thread of `hark listen` has measured, as far as it tells.
 *
 * @module
 */

import { pause } from "../../database/bell.ts";
import type { Measurements } from "../../metrics/monitor.ts";
import type { Series } from "../../metrics/registry.ts";
import { risingOf } from "../../metrics/text.ts";
import type { Order, Report } from "./thread_messages.ts";

/** How long a thread has to tell its measurements, in ms. */
const patience = 4000;

/** The measurements of one thread. */
export class Measured {
  readonly #name: string;
  readonly #tell: (order: Order) => void;
  /** The questions that are open. */
  readonly #asked = new Map<number, (told: Measurements) => void>();
  #questions = 0;
  /** The sums that it last told. */
  sums: readonly Series[] = [];

  constructor(name: string, tell: (order: Order) => void) {
    this.#name = name;
    this.#tell = tell;
  }

  /**
   * Asks for the measurements. If the thread gives no answer: that it is silent, with the sums that it
   * last told.
   *
   * @param reports As for `Meter.read`.
   */
  async ask(reports: boolean): Promise<Measurements> {
    const number = ++this.#questions;
    const told = new Promise<Measurements>((resolve) => this.#asked.set(number, resolve));
    this.#tell({ kind: "measure", number, reports });
    const over = new AbortController();
    const silence = pause(patience, over.signal).then(() => sumsOnly(this.sums, this.#name));
    const measured = await Promise.race([told, silence]);
    over.abort();
    this.#asked.delete(number);
    return measured;
  }

  /** Takes an answer. */
  take({ number, measurements }: Report & { readonly kind: "measured" }): void {
    this.sums = risingOf(measurements.series);
    this.#asked.get(number)?.(measurements);
  }
}

/** Sums without anything else: of threads that have ended, or of one that is silent. */
export function sumsOnly(series: readonly Series[], ...silent: readonly string[]): Measurements {
  return { series, health: { runs: [], listening: 0, polling: 0, silent } };
}
