/**
 * Compares two descriptions of channels: may the new program be deployed beside the old one?
 *
 * @module
 */

import { show } from "../check.ts";
import { HarkError } from "../errors.ts";
import type { AsyncApi, Message } from "./asyncapi.ts";
import { misfits } from "./misfits.ts";

/** What a comparison has found. */
export interface Comparison {
  /** The changes that are incompatible, one sentence each. */
  readonly incompatible: readonly string[];
  /** What could not be compared, one sentence each. */
  readonly unknown: readonly string[];
}

/**
 * Compares the channels of an older program with those of a newer one. A change is incompatible if
 * the newer program may be unable to read what the older one has stored, or if a worker of the older
 * one may fail on what the newer one publishes. A new version is compatible: older workers let it
 * wait.
 *
 * @throws {HarkError} `BAD_OPTION` if `before` is no description that `hark channels` has written.
 */
export function compare(before: unknown, after: AsyncApi): Comparison {
  const incompatible: string[] = [];
  const unknown: string[] = [];
  for (const [name, old] of versionsOf(before)) {
    const now = versionsOf(after).get(name);
    if (now === undefined) {
      incompatible.push(`channel ${show(name)} is gone: nothing reads what it has stored`);
      continue;
    }
    const [last, newest] = [Math.max(...old.keys()), Math.max(...now.keys())];
    if (newest < last) {
      incompatible.push(
        `channel ${show(name)} goes back from version ${last} to ${newest}: what is stored as ` +
          `version ${last} would wait for ever. Keep every .from()`,
      );
    }
    for (const [version, message] of old) {
      const same = now.get(version);
      if (same === undefined) continue;
      const what = `channel ${show(name)} version ${version}`;
      if (message.payload === undefined || same.payload === undefined) {
        const why = message["x-hark-undescribed"] ?? same["x-hark-undescribed"];
        unknown.push(`${what} cannot be compared: ${why}`);
        continue;
      }
      for (const found of misfits(message.payload, same.payload)) {
        incompatible.push(`${what} may not read what is stored: ${found}`);
      }
      // Only the newest version is published.
      if (version !== last || version !== newest) continue;
      for (const found of misfits(same.payload, message.payload)) {
        incompatible.push(
          `${what}, as older workers know it, may not read what is published: ${found}`,
        );
      }
    }
  }
  return { incompatible, unknown };
}

function versionsOf(document: unknown): Map<string, Map<number, Message>> {
  const { channels } = (document ?? {}) as Partial<AsyncApi>;
  if (typeof channels !== "object" || channels === null) throw noDocument();
  return new Map(
    Object.entries(channels).map(([name, one]) => {
      const messages = Object.values(one?.messages ?? {});
      if (
        messages.length === 0 || !messages.every((m) => Number.isInteger(m?.["x-hark-version"]))
      ) {
        throw noDocument();
      }
      return [one.address ?? name, new Map(messages.map((m) => [m["x-hark-version"], m]))];
    }),
  );
}

function noDocument(): HarkError {
  return new HarkError("BAD_OPTION", "the older description is none of hark channels", {
    remedy: "Give a file that hark channels has written: hark channels MODULE > channels.json",
  });
}
