/**
 * Tables: aligned columns under a heading. Colour is the only difference that a terminal makes.
 *
 * @module
 */

import { paint, type Style, visible } from "./style.ts";
import { numberText, shortened } from "./text.ts";

/** A cell that needs more than its text. */
export interface Styled {
  readonly text: string;
  /** The colour of trouble. */
  readonly style?: Style | undefined;
  /** Whether it is a number, which is aligned to the right. */
  readonly right?: boolean;
}

/** A cell: text, a number to be written with separators, or either with a colour. */
export type Cell = string | number | Styled;

/** A count, coloured if it is not 0; `+` after it if counting stopped there. */
export function count(value: number, trouble?: Style, capped = false): Styled {
  return {
    text: `${numberText(value)}${capped ? "+" : ""}`,
    style: value > 0 ? trouble : undefined,
    right: true,
  };
}

/** A payload, or why it cannot be read. */
export function payloadCell(
  { payload, problem }: { readonly payload: unknown; readonly problem: string | null },
): Cell {
  return problem === null
    ? shortened(JSON.stringify(payload), 80)
    : { text: problem, style: "red" };
}

/** An id or another number to be copied: without separators. */
export function plain(id: number): Styled {
  return { text: String(id), right: true };
}

/** A table under headings, separated by commas. Only a cell of the last column may have several lines. */
export function table(headings: string, given: readonly (readonly Cell[])[]): string {
  const head = headings.split(", ");
  const rows = given.map((row) => row.map(styled));
  const right = head.map((_, i) => rows.some((row) => row[i]?.right === true));
  const widths = head.map((title, i) =>
    i === head.length - 1 && !right[i]
      ? 0
      : rows.reduce((most, row) => Math.max(most, width(row[i]?.text ?? "")), title.length)
  );
  const indent = " ".repeat(widths.slice(0, -1).reduce((sum, one) => sum + one + 2, 0));
  const line = (cells: readonly Styled[]) =>
    cells.map(({ text, style }, i) => {
      const space = " ".repeat(Math.max(0, widths[i]! - width(text)));
      const lines = text.split("\n").map(visible).join(`\n${indent}`);
      const painted = style === undefined ? lines : paint(style, lines);
      return right[i] ? space + painted : painted + space;
    }).join("  ").trimEnd();
  return [line(head.map((text) => ({ text, style: "bold" }))), ...rows.map(line)].join("\n");
}

/** A table with a row for each of some; without any of them, a sentence instead of it. */
export function tableOf<T>(
  all: readonly T[],
  headings: string,
  row: (one: T) => readonly Cell[],
  otherwise = "",
): string {
  return all.length === 0 ? otherwise : table(headings, all.map(row));
}

/** Names and their values, one a line, the values aligned. */
export function facts(given: readonly (readonly [name: string, value: Cell])[]): string {
  const widest = Math.max(...given.map(([name]) => name.length));
  return given.map(([name, value]) => {
    const { text, style } = styled(value);
    const lines = text.split("\n").map(visible).join(`\n${" ".repeat(widest + 2)}`);
    const painted = style === undefined ? lines : paint(style, lines);
    return `${paint("bold", name)}${" ".repeat(widest - name.length + 2)}${painted}`;
  }).join("\n");
}

/** Blocks with an empty line between them; empty ones are left out. */
export function blocks(...given: readonly string[]): string {
  return given.filter((block) => block !== "").join("\n\n");
}

function styled(cell: Cell): Styled {
  if (typeof cell === "string") return { text: cell };
  return typeof cell === "number" ? count(cell) : cell;
}

const marks = /\p{M}/gu;
// East Asian wide and full-width characters, and emoji.
const wide =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|[\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]/gu;

/** How many columns a terminal needs for a text. */
function width(text: string): number {
  return [...visible(text).replaceAll(marks, "").replaceAll(wide, "  ")].length;
}
