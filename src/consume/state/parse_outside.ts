/**
 * Reads positions outside of the database. What they look like: outside.ts.
 *
 * @module
 */

import { show } from "../../check.ts";
import { HarkError } from "../../errors.ts";
import { betweenWindows, longest, type Parts, reversed, version } from "./outside.ts";

const noLife = "0".repeat(32);
/** The end of the year 9999. PostgreSQL reads later times in another form. */
const lastTime = 253_402_300_799_999n;
/** More transactions than a server can have. */
const mostRunning = 1_000_000n;

/** Where a reader goes on, as hark.resume_position takes it. */
export interface Given {
  /** The first characters of the installation's id. */
  readonly install: string;
  readonly seen: string;
  readonly target: string | null;
  readonly lastId: string | null;
  readonly afterId: string;
}

/** Reads a text from its beginning. Whatever is wrong throws. */
class Reader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  take(length: number): string {
    const taken = this.#text.slice(this.#at, this.#at += length);
    if (taken.length < length) throw new Error("it is too short");
    return taken;
  }

  number(digits: (text: string) => string = (text) => text): bigint {
    const length = parseInt(digits(this.take(1)), 36);
    if (!(length >= 1 && length <= 13)) throw new Error("it has no number where one belongs");
    const text = digits(this.take(length));
    let n = 0n;
    for (const digit of text) n = n * 36n + BigInt(parseInt(digit, 36));
    if (n > Number.MAX_SAFE_INTEGER || length > 1 && text[0] === "0") {
      throw new Error("it has a number that is none");
    }
    return n;
  }

  expect(text: string): void {
    if (this.take(text.length) !== text) throw new Error("its parts are not in their places");
  }

  get over(): boolean {
    return this.#at === this.#text.length;
  }

  /** The number of a mark. */
  name(): bigint {
    if (this.#text[this.#at] !== "0") return this.number();
    this.take(1);
    const number = this.number();
    if (number === 0n) throw new Error("it has a number that is none");
    return -number;
  }

  mark(life: string, upper: bigint, running: bigint, number: bigint): Parts {
    const kind = this.take(1);
    const takenAt = this.number();
    const name = { number, life, takenAt, upper, running };
    if (takenAt > lastTime || running > mostRunning) {
      throw new Error("it has a number that is none");
    }
    if (kind === "n") return { ...name, content: undefined };
    if (kind !== "c") throw new Error("its parts are not in their places");
    const maxId = this.number();
    const floor = maxId - this.number();
    const fence = number < 0n ? undefined : upper + this.number();
    const pairs = Array.from(
      { length: Number(running) },
      () => [upper - this.number(), maxId - this.number()] as const,
    );
    const stragglers = pairs.map(([xid]) => xid);
    const lows = pairs.map(([, low]) => low);
    const ascending = stragglers.every((xid, i) =>
      xid > 0n && xid < upper && xid > (stragglers[i - 1] ?? 0n)
    );
    if (!ascending || [floor, ...lows].some((id) => id < 0n)) {
      throw new Error("its numbers contradict each other");
    }
    return { ...name, content: { maxId, floor, fence, stragglers, lows } };
  }
}

/** Writes a mark as PostgreSQL reads it. One without content has its name only. */
function rowOf({ number, life, takenAt, upper, running, content }: Parts): string {
  const uuid = life.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  const at = takenAt === 0n ? "-infinity" : new Date(Number(takenAt)).toISOString();
  if (content === undefined) return `(${number},${uuid},${at},,${upper},${running},,,,,,,)`;
  const { maxId, floor, fence, stragglers, lows } = content;
  const low = lows.reduce((a, b) => a < b ? a : b, floor);
  const snapshot = `${stragglers[0] ?? upper}:${upper}:${stragglers.join(",")}`;
  return `(${number},${uuid},${at},"${snapshot}",${upper},${running},${maxId},${floor},${low},` +
    `"{${stragglers.join(",")}}","{${lows.join(",")}}",${fence ?? ""},-infinity)`;
}

/**
 * Reads a position. That it is well formed says nothing about whether it is of this database.
 *
 * @param remedy What to give instead.
 * @throws {HarkError} `BAD_OPTION`
 */
export function parsePosition(
  name: string,
  text: unknown,
  remedy = "Give a position unchanged, as notification.position has it.",
): Given {
  try {
    if (typeof text !== "string") throw new Error("it is no text");
    if (text.length > longest) throw new Error(`it is longer than ${longest} characters`);
    if (!/^1[0-9a-f]{8}\.[0-9a-f]{32}[0-9a-z]+\.[0-9a-z]+\.[0-9a-z]+$/.test(text)) {
      throw new Error("it does not look like one");
    }
    return parse(new Reader(text));
  } catch (error) {
    const shown = typeof text === "string" && text.length > 60 ? `${text.slice(0, 60)}…` : text;
    throw new HarkError(
      "BAD_OPTION",
      `${name} is ${show(shown)}, which is no position: ${(error as Error).message}`,
      { remedy },
    );
  }
}

function parse(text: Reader): Given {
  text.expect(version);
  const install = text.take(8);
  text.expect(".");
  const life = text.take(32);
  const [upper, running, number] = [text.number(), text.number(reversed), text.name()];
  text.expect(".");
  const id = text.take(1);
  // The digit that says how long the id is has been read.
  const lastId = id === betweenWindows ? undefined : new Reader(
    id + text.take(parseInt(id, 36) <= 11 ? parseInt(id, 36) : 99),
  ).number();
  text.expect(".");
  const afterId = text.number();
  const late = text.mark(life, upper, running, number);
  let early: Parts | undefined;
  if (lastId !== undefined) {
    const same = text.take(1);
    if (same !== "s" && same !== "o") throw new Error("its parts are not in their places");
    const its = same === "s" ? life : text.take(32);
    if (!/^[0-9a-f]+$/.test(its)) throw new Error("its parts are not in their places");
    const [u, r, n] = [text.number(), text.number(), text.name()];
    early = text.mark(its, u, r, n);
  }
  if (!text.over) throw new Error("it goes on where it should end");
  for (const mark of [late, early]) {
    // Mark 0 has seen nothing, and reading tells it by its number.
    if (mark !== undefined && (mark.number === 0n) !== (mark.life === noLife)) {
      throw new Error("its numbers contradict each other");
    }
  }
  return {
    install,
    seen: rowOf(early ?? late),
    target: early === undefined ? null : rowOf(late),
    lastId: lastId?.toString() ?? null,
    afterId: afterId.toString(),
  };
}
