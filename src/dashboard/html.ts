/**
 * HTML that is safe by construction: whatever is put into a template is escaped, unless it is HTML
 * that another template made.
 *
 * @module
 */

import { visible } from "../visible.ts";

/** A piece of HTML. */
export class Html {
  /** Only {@linkcode htm} and files of this package make one. */
  constructor(readonly text: string) {}
}

/** What a template takes. */
export type Part = Html | string | number | null | undefined | false | readonly Part[];

const marks: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/**
 * Text for an element or a quoted attribute. Control characters, and characters that turn the
 * direction of text, are shown as escapes: a name must not look like another. Line breaks and tabs
 * stay.
 */
export function escaped(text: string): string {
  return text.replaceAll(/[^\n\t]+/g, visible).replaceAll(/[&<>"']/g, (one) => marks[one]!);
}

/** Makes HTML. Attributes are always written with quotes, so that nothing can leave them. */
export function htm(texts: TemplateStringsArray, ...parts: readonly Part[]): Html {
  return new Html(
    texts.map((text, i) => i === 0 ? text : `${partText(parts[i - 1])}${text}`).join(""),
  );
}

function partText(part: Part): string {
  if (part === null || part === undefined || part === false) return "";
  if (part instanceof Html) return part.text;
  if (typeof part === "object") return part.map(partText).join("");
  return escaped(String(part));
}

/** An attribute's value with an address of this site: its query is encoded. */
export function address(
  path: string,
  query: Readonly<Record<string, string | number | undefined>>,
) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== "") search.set(name, String(value));
  }
  return search.size === 0 ? path : `${path}?${search}`;
}
