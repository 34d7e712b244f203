/**
 * What cleaning has removed before a reader came there.
 *
 * @module
 */

import { toId } from "../../check.ts";
import type { SubscriptionGap } from "../subscribe_options.ts";
import { maxIdOf } from "../state/outside.ts";
import type { Mark, Position } from "../state/position.ts";
import type { Page } from "./page.ts";

/** The gaps of a reader, each told once. */
export class Gaps {
  /** Up to where it is known that cleaning has removed what the reader had not read. */
  #through = 0;
  #gap: SubscriptionGap | undefined;

  /** What is known from the start on. */
  begin(gap: SubscriptionGap | undefined): void {
    this.#through = gap?.through ?? 0;
  }

  /** Compares a page of a window with what was cleaned. `at` is where the reader was before. */
  compare(page: Page, { seen, target, lastId }: Position, end: Mark): void {
    const through = toId(page.facts.cleaned);
    // The beginning is what there is.
    const from = target !== undefined
      ? lastId
      : seen.number === 0
      ? Infinity
      : maxIdOf(end) - page.span;
    if (through > from) this.note({ through });
  }

  /** Notes a gap, unless it is known. */
  note(gap: SubscriptionGap): void {
    if (gap.through <= this.#through) return;
    this.#through = gap.through;
    this.#gap = gap;
  }

  /** A gap that is not told yet. */
  take(): SubscriptionGap | undefined {
    const gap = this.#gap;
    this.#gap = undefined;
    return gap;
  }
}
