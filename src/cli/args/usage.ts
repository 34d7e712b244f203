/**
 * The usage lines of a help page.
 *
 * @module
 */

const prefix = "Usage: ";

/**
 * Breaks the usage lines of a help page anew, between options only. optique 1.3 breaks them within the
 * brackets around an option, too.
 */
export function withWholeOptions(page: string, width: number): string {
  const lines = page.split("\n");
  const first = lines.findIndex((line) => line.startsWith(prefix));
  if (first < 0) return page;
  const length = lines.slice(first).findIndex((line) => line.trim() === "");
  const end = length < 0 ? lines.length : first + length;
  const usages: string[] = [];
  for (const line of lines.slice(first, end)) {
    const text = line.slice(prefix.length);
    // A group has a line for each of its commands.
    if (/^hark( |$)/.test(text)) usages.push(text);
    else usages.push(`${usages.pop() ?? ""} ${text.trim()}`);
  }
  const whole = usages.flatMap((usage, i) =>
    broken(usage, width - prefix.length).map((line, j) =>
      `${i + j === 0 ? prefix : " ".repeat(prefix.length)}${line}`
    )
  );
  return [...lines.slice(0, first), ...whole, ...lines.slice(end)].join("\n");
}

function broken(usage: string, width: number): string[] {
  const text = usage.replaceAll(/([[(]) +/g, "$1").replaceAll(/ +(\.\.\.|[\])])/g, "$1");
  const lines: string[] = [];
  let line = "";
  for (const part of partsOf(text)) {
    if (line !== "" && line.length + 1 + part.length > width) {
      lines.push(line);
      line = "";
    }
    line += `${line === "" ? "" : " "}${part}`;
  }
  return [...lines, line];
}

/** Words, with all that is between brackets as one of them. */
function partsOf(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let part = "";
  for (const one of text) {
    if (one === "[" || one === "(") depth++;
    if (one === "]" || one === ")") depth--;
    if (one === " " && depth === 0) {
      parts.push(part);
      part = "";
    } else part += one;
  }
  return [...parts, part].filter((word) => word !== "");
}
