/**
 * What was published, what was handled, and whether the second does right by the first.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { Notification } from "../../../mod.ts";

/** A notification that was committed. */
export interface Published {
  readonly id: number;
  readonly channel: string;
  readonly key: string | null;
  /** Counts the notifications of its key, in the order of their commits. */
  readonly version: number;
  /** Random: an id may be given out twice where a transaction was rolled back by a crash. */
  readonly token: string;
}

/** A line of a ledger: a handler has begun, has ended, or has ended with an error. */
export interface Entry {
  readonly what: "began" | "ended" | "failed";
  readonly consumer: string;
  /** The process. */
  readonly worker: number;
  readonly id: number;
  readonly key: string | null;
  readonly version: number;
  readonly token: string;
  readonly attempt: number;
  /** Milliseconds since 1970. */
  readonly at: number;
}

/**
 * A file that several processes append to. Each entry is one write of some hundred bytes to a file
 * opened for appending: the lines lie in the order in which they were written, whichever process wrote them,
 * and what a process has written is there after its end, however it ended.
 */
export class LedgerFile {
  readonly #file: Deno.FsFile;
  readonly #encoder = new TextEncoder();

  constructor(path: string) {
    this.#file = Deno.openSync(path, { append: true, create: true });
  }

  /** Appends an entry. */
  write(what: Entry["what"], consumer: string, n: Notification): void {
    const payload = n.payload as { version?: number; token?: string } | null;
    const entry: Entry = {
      what,
      consumer,
      worker: Deno.pid,
      id: n.id,
      key: n.key,
      version: payload?.version ?? 0,
      token: payload?.token ?? String(n.id),
      attempt: n.attempt,
      at: Date.now(),
    };
    this.#file.writeSync(this.#encoder.encode(`${JSON.stringify(entry)}\n`));
  }

  /** Closes it. */
  [Symbol.dispose](): void {
    this.#file.close();
  }
}

/** Reads a ledger that processes may still append to. */
export async function readLedger(path: string): Promise<Entry[]> {
  const text = await Deno.readTextFile(path).catch(() => "");
  const whole = text.slice(0, text.lastIndexOf("\n") + 1);
  return whole.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line));
}

/** What a ledger shows. Everything but `repeats` has to be empty. */
export interface Verdict {
  /** Committed, and never handled to the end. */
  readonly missing: Published[];
  /** Handled, and never committed. */
  readonly ghosts: Entry[];
  /** Handled for the first time after a later one of its key. */
  readonly overtaken: Entry[];
  /** A handler began while the same process was at another one of that key. */
  readonly overlapping: Entry[];
  /** How often one that was handled already was handled again. */
  readonly repeats: number;
}

/** Judges what one consumer has handled, in the order of its ledger. */
export function judge(published: readonly Published[], entries: readonly Entry[]): Verdict {
  const wanted = new Set(published.map((p) => p.token));
  const handled = new Set<string>();
  const newest = new Map<string, number>();
  const inHand = new Set<string>();
  const ghosts: Entry[] = [];
  const overtaken: Entry[] = [];
  const overlapping: Entry[] = [];
  let repeats = 0;
  for (const entry of entries) {
    const place = `${entry.worker} ${entry.key ?? entry.token}`;
    if (!wanted.has(entry.token)) ghosts.push(entry);
    if (entry.what === "began") {
      if (inHand.has(place)) overlapping.push(entry);
      inHand.add(place);
      continue;
    }
    inHand.delete(place);
    if (entry.what === "failed") continue;
    if (handled.has(entry.token)) {
      repeats++;
    } else if (entry.key !== null) {
      const before = newest.get(entry.key) ?? 0;
      if (entry.version < before) overtaken.push(entry);
      newest.set(entry.key, Math.max(entry.version, before));
    }
    handled.add(entry.token);
  }
  const missing = published.filter((p) => !handled.has(p.token));
  return { missing, ghosts, overtaken, overlapping, repeats };
}

/** Fails where a consumer's ledger breaks a promise. */
export function assertRight(consumer: string, verdict: Verdict): void {
  const { missing, ghosts, overtaken, overlapping } = verdict;
  const first = (list: readonly unknown[]) =>
    `${consumer}: ${list.length}, such as ${Deno.inspect(list.slice(0, 3))}`;
  assert.equal(missing.length, 0, `lost by ${first(missing)}`);
  assert.equal(ghosts.length, 0, `never committed, handled by ${first(ghosts)}`);
  assert.equal(overtaken.length, 0, `overtaken inside their key at ${first(overtaken)}`);
  assert.equal(overlapping.length, 0, `beside another one of their key at ${first(overlapping)}`);
}
