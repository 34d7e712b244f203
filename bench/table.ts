/**
 * The output of a bench: one table, as Markdown or as JSON.
 *
 * @module
 */

import type { Flags } from "./flags.ts";
import { type Panel, picture } from "./svg.ts";

/** A row: one value for each column. All rows have the columns of the first row, in its order. */
export type Row = Readonly<Record<string, string | number | null>>;

/** The result of a bench. */
export interface Report {
  /** The title. */
  readonly title: string;
  /** How the bench measured: sizes, repeats, the driver. One sentence each. */
  readonly notes: readonly string[];
  readonly rows: readonly Row[];
  /** The same figures as curves. */
  readonly panels?: readonly Panel[];
}

/** Prints a report, and draws it if a file is given. */
export async function print(report: Report, flags: Flags): Promise<void> {
  if (flags.json) {
    const { title, notes, rows } = report;
    console.log(JSON.stringify({ title, notes, rows }));
  } else {
    console.log(`${report.title}\n\n${markdown(report.rows)}\n`);
    for (const note of report.notes) console.log(note);
  }
  if (flags.svg !== undefined) {
    if (report.panels === undefined) throw new Error("this bench draws no picture");
    await Deno.writeTextFile(flags.svg, picture(report.title, report.panels));
  }
}

function markdown(rows: readonly Row[]): string {
  const columns = Object.keys(rows[0] ?? {});
  const cells = [columns, ...rows.map((row) => columns.map((column) => shown(row[column])))];
  const widths = columns.map((_, at) => Math.max(3, ...cells.map((row) => row[at]!.length)));
  const numeric = columns.map((column) => rows.every((row) => typeof row[column] !== "string"));
  const line = (row: readonly string[]) =>
    `| ${
      row.map((cell, at) => numeric[at] ? cell.padStart(widths[at]!) : cell.padEnd(widths[at]!))
        .join(" | ")
    } |`;
  const rule = `|${
    widths.map((width, at) => numeric[at] ? `${"-".repeat(width + 1)}:` : "-".repeat(width + 2))
      .join("|")
  }|`;
  return [line(cells[0]!), rule, ...cells.slice(1).map(line)].join("\n");
}

function shown(value: string | number | null | undefined): string {
  if (value === null || value === undefined) return "-";
  return typeof value === "number" && Math.abs(value) >= 1000
    ? value.toLocaleString("en")
    : String(value);
}
