/**
 * What the doctor says.
 *
 * @module
 */

/** Something that is wrong with a set-up, or could be better. */
export interface Finding {
  /** A stable word for programs, such as `"pooler"` or `"drift"`. */
  readonly code: string;
  /**
   * `"error"`: something does not work. `"warning"`: it will not work well, or not for long.
   * `"note"`: something could not be looked at.
   */
  readonly level: "error" | "warning" | "note";
  /** What is wrong, with names and values. */
  readonly problem: string;
  /** What to do. */
  readonly remedy: string;
  /** The consumer that it is about, if it is about one. */
  readonly consumer?: string;
}

/** From when on something is too much. */
export interface Thresholds {
  /** After how many ms a transaction is open for too long. */
  readonly longTransaction: number;
  /** From how many bytes on the log is too large. */
  readonly maxLogBytes: number;
}

/** A number as text, with "or more" if counting stopped there. */
export type Count = (number: number) => string;

/** A finding, shorter. */
export type Find = (
  level: Finding["level"],
  code: string,
  problem: string,
  remedy: string,
  consumer?: string,
) => Finding;
