/**
 * Payloads: hidden until a visitor asks, and as `redact` lets them be seen.
 *
 * @module
 */

import { HarkError } from "../errors.ts";
import { htm, type Html } from "./html.ts";
import type { ShownNotification } from "./options.ts";
import { facts, table } from "./parts.ts";
import type { View } from "./view.ts";

/** A notification as it may be shown. */
export function redacted(view: View, given: ShownNotification): ShownNotification {
  const { id, channel, key, payload, headers } = given;
  return view.settings.redact({ id, channel, key, payload, headers });
}

/** Whether the visitor may search by key and payload: guesses would find what `redact` leaves out. */
export function maySearch({ settings, visitor }: View): boolean {
  return !settings.redacts || visitor.role === "operate";
}

/** Refuses a search by the parts that `redact` changes. @throws {HarkError} `NO_PERMISSION`. */
export function checkSearch(view: View): void {
  if (maySearch(view)) return;
  const field = searched.find((name) => view.query.get(name));
  if (field === undefined) return;
  throw new HarkError("NO_PERMISSION", `you may not search by ${field}`, {
    remedy: "Parts of notifications are hidden from you, and a search would find them.",
  });
}

/** What a visitor may search by only if nothing is hidden. */
export const searched: readonly string[] = ["key", "search", "contains"];

/** Whether the page was asked to show payloads. */
export function showsPayload(view: View): boolean {
  return view.query.get("show") === "payload";
}

/** JSON as people read it. */
export function jsonText(value: unknown): string {
  return JSON.stringify(value, null, 2) ?? "null";
}

/** At most 64 kB of it. */
function shownText(value: unknown): string {
  const text = jsonText(value);
  return text.length > 65_536
    ? `${text.slice(0, 65_536)}\n… and ${text.length - 65_536} more characters`
    : text;
}

/** A value in a line. */
export function short(value: unknown, most = 160): string {
  const text = JSON.stringify(value) ?? "null";
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

type Fields = Readonly<Record<string, unknown>>;

function isObject(value: unknown): value is Fields {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

/** Payload and headers. A change of a table is shown column by column. */
export function contents({ payload, headers }: ShownNotification): Html {
  const change = isObject(payload) && (isObject(payload.old) || isObject(payload.new))
    ? difference(
      isObject(payload.old) ? payload.old : {},
      isObject(payload.new) ? payload.new : {},
    )
    : undefined;
  return htm`${change ?? ""}<h3>Payload</h3><pre tabindex="0">${shownText(payload)}</pre>${
    Object.keys(headers).length === 0
      ? ""
      : htm`<h3>Headers</h3>${
        facts(Object.entries(headers).map(([name, value]) => [name, short(value, 400)]))
      }`
  }`;
}

function difference(before: Fields, after: Fields): Html {
  const columns = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  return htm`<h3>Change</h3>${
    table(
      "Change, column by column",
      ["Column", "Old", "New"],
      columns.map((column) => {
        const [a, b] = [before, after].map((row) =>
          Object.hasOwn(row, column) ? short(row[column]) : undefined
        );
        const changed = a !== b;
        return {
          key: column,
          cells: [
            htm`<bdi class="mono">${column}</bdi>`,
            a === undefined
              ? "-"
              : changed
              ? htm`<del class="mono">${a}</del>`
              : htm`<span class="mono">${a}</span>`,
            b === undefined
              ? "-"
              : changed
              ? htm`<ins class="mono">${b}</ins>`
              : htm`<span class="mono">${b}</span>`,
          ],
        };
      }),
    )
  }`;
}
