/**
 * JSON whose numbers keep all their digits.
 *
 * @module
 */

/** Since ECMAScript 2026; TypeScript 6.0 does not know it yet. Missing in older runtimes. */
const { rawJSON } = JSON as unknown as { rawJSON?(text: string): unknown };

/**
 * Parses JSON so that `JSON.stringify` gives the same numbers again, even beyond 2^53. A number that would
 * change is an object of `JSON.rawJSON`. In a runtime without that, such numbers lose digits.
 *
 * @param changes Whether a number would change. Without it, one that would only be written in another way
 *   counts too, such as 1.10.
 * @throws {SyntaxError} If the text is no JSON.
 */
export function parseExact(
  text: string,
  changes: (value: number, source: string) => boolean = () => true,
): unknown {
  const keep = (_name: string, value: unknown, context?: { readonly source?: string }): unknown => {
    const source = context?.source;
    if (typeof value !== "number" || source === undefined || String(value) === source) return value;
    return rawJSON === undefined || !changes(value, source) ? value : rawJSON(source);
  };
  return JSON.parse(text, keep);
}

/** Where a number may lose digits: it is long, or has an exponent. */
const suspect = /\d[\d.]{15}|\d[eE]/;

/** Whether a number of a JSON text may lose digits. */
export function mayLoseDigits(text: string): boolean {
  return suspect.test(text);
}

/** Whether a number is another one than its text says. */
export function losesDigits(value: number, source: string): boolean {
  return digitsOf(String(value)) !== digitsOf(source);
}

/**
 * Parses JSON. Only numbers that would lose digits are objects of `JSON.rawJSON`: the others are numbers,
 * even if they are written in another way, such as 1.10.
 */
export function parseDigits(text: string): unknown {
  return mayLoseDigits(text) ? parseExact(text, losesDigits) : JSON.parse(text);
}

/** A number without the zeros that say nothing: the same text for 10, 10.0 and 1e1. */
function digitsOf(text: string): string {
  const [, sign = "", whole = "", fraction = "", exponent = "0"] =
    /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text) ?? [];
  const all = `${whole}${fraction}`.replace(/^0+/, "");
  let end = all.length; // by a regular expression, a number of a million digits could take minutes
  while (all[end - 1] === "0") end--;
  const digits = all.slice(0, end);
  return digits === ""
    ? whole // nothing for Infinity, which is no number of JSON
    : `${sign}${digits}e${Number(exponent) - fraction.length + all.length - digits.length}`;
}
