/**
 * Fields of forms: what a page writes into them, and what a browser sends back.
 *
 * @module
 */

import { bad, wholeNumber } from "../check.ts";
import { visible } from "../visible.ts";
import { htm, type Html, type Part } from "./html.ts";

/**
 * What the name of a field with JSON begins with. A text field has no line breaks, a browser sends
 * those of a hidden one as `\r\n`, and pages show control characters as escapes. As JSON a value
 * comes back as it was.
 */
const asJson = "json:";

/** The attributes of a field: its name, and its value so that it comes back as it is. */
function held(name: string, value: string | number): Html {
  const text = String(value);
  const shown = visible(text);
  return shown === text
    ? htm`name="${name}" value="${text}"`
    : htm`name="${asJson}${name}" value="${visible(JSON.stringify(text))}"`;
}

/** Hidden fields of a form. */
export function hidden(fields: Readonly<Record<string, string | number | undefined>>): Html[] {
  return Object.entries(fields).filter(([, value]) => value !== undefined).map(([name, value]) =>
    htm`<input type="hidden" ${held(name, value!)}>`
  );
}

/** A field that a visitor may change. A value that a text field has no room for is shown as JSON. */
export function textField(words: string, name: string, value: string, more: Part = ""): Html {
  return htm`<label>${words}${visible(value) === value ? "" : ", as JSON"}<input ${
    held(name, value)
  }${more}></label>`;
}

/** Gives fields with JSON, of a form or an address, the text that they stand for. @throws {HarkError} `BAD_OPTION`. */
export function readJson(sent: FormData | URLSearchParams): void {
  for (const [field, json] of [...sent]) {
    if (!field.startsWith(asJson)) continue;
    const name = field.slice(asJson.length);
    sent.delete(field);
    sent.append(name, json === "" ? "" : parsed(name, json));
  }
}

function parsed(name: string, json: unknown): string {
  try {
    const text = JSON.parse(String(json));
    if (typeof text === "string") return text;
  } catch {
    // It says so below.
  }
  return bad(name, json, 'Write a text as JSON, such as "a\\nb".');
}

/** What a form has sent. */
export class Fields {
  readonly #form: FormData;

  /** @throws {HarkError} `BAD_OPTION` if a field with JSON has something else. */
  constructor(form: FormData) {
    readJson(form);
    this.#form = form;
  }

  /** A field, the last of its name; undefined if it is missing or empty. */
  maybe(name: string): string | undefined {
    const value = this.#form.getAll(name).at(-1);
    return typeof value === "string" && value !== "" ? value : undefined;
  }

  /** A field that has to be there. */
  text(name: string): string {
    return this.maybe(name) ?? bad(name, undefined, "Fill it in.");
  }

  /** A whole number. */
  number(name: string): number {
    return wholeNumber(name, Number(this.text(name)), 0, 0);
  }

  /** All fields of one name, as ids. */
  ids(name: string): number[] {
    return this.#form.getAll(name).map((value) => wholeNumber(name, Number(value), 0, 1));
  }
}
