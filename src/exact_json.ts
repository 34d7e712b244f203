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
