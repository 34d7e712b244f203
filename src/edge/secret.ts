/**
 * Secrets that a request shows.
 *
 * @module
 */

import { HarkError } from "../errors.ts";
import { kindOf } from "../show.ts";

/** The fewest characters of a secret. */
const least = 16;

/** The secrets that a request may show: one, or several while one replaces another. */
export class Secrets {
  readonly #digests: Promise<readonly Uint8Array[]>;

  /** @throws {HarkError} `BAD_OPTION` without a secret, or for one that is too short. */
  constructor(given: unknown) {
    const secrets: unknown[] = Array.isArray(given) ? given : [given];
    if (secrets.length === 0) refuse("secret is an empty array");
    for (const [i, one] of secrets.entries()) {
      const problem = problemOf(one);
      const name = Array.isArray(given) ? `secret[${i}]` : "secret";
      if (problem !== undefined) refuse(`${name} ${problem}`);
    }
    const texts = secrets as readonly string[];
    this.#digests = Promise.all(texts.map(digest));
  }

  /** Whether a request shows one of them, as `Authorization: Bearer SECRET`. */
  async areShownBy(request: Request): Promise<boolean> {
    const [, shown] = /^Bearer +(.+)$/i.exec(request.headers.get("authorization") ?? "") ?? [];
    const other = await digest(shown ?? "");
    let found = false;
    // All are compared, and each to its end: the time tells nothing about them.
    for (const one of await this.#digests) found = isSame(one, other) || found;
    return found && shown !== undefined;
  }
}

/** Why a value cannot be a secret. The value is not told: it may be most of a secret. */
function problemOf(value: unknown): string | undefined {
  if (value === undefined || value === null || value === "") return "is missing";
  if (typeof value !== "string") return `is ${kindOf(value)}`;
  if (!/^[\x21-\x7e]+$/.test(value)) return "has characters that are not visible ASCII";
  const { length } = value;
  if (length < least) return `has ${length} character${length === 1 ? "" : "s"}`;
  return undefined;
}

function refuse(what: string): never {
  throw new HarkError("BAD_OPTION", what, {
    remedy: what.endsWith("is missing")
      ? `Is the variable set that it is read from, such as DRAIN_SECRET? Give text of at least ${least} characters.`
      : `Give text of at least ${least} characters, all of them visible ASCII, or an array of such texts.`,
  });
}

async function digest(text: string): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  let difference = 0;
  for (const [i, byte] of a.entries()) difference |= byte ^ b[i]!;
  return difference === 0;
}
