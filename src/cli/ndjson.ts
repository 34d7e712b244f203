/**
 * JSON of the command line and of standard input. Each number keeps all its digits.
 *
 * @module
 */

import { channelName, knownOptions, show } from "../check.ts";
import { HarkError } from "../errors.ts";
import { parseExact } from "../exact_json.ts";
import type { NewNotification } from "../publish/notify.ts";
import { headersText, keyText, payloadText } from "../publish/payload.ts";

/** Parses a payload of the command line. The usual mistake is to forget the quotes. */
export function parsePayload(text: string): unknown {
  try {
    return parseExact(text);
  } catch (error) {
    throw new HarkError("BAD_PAYLOAD", `the payload ${show(text)} is not JSON`, {
      cause: error,
      remedy: `Quote it as JSON, such as '{"id":42}' or '"${word(text)}"'. To publish it as a ` +
        "string, add --text.",
    });
  }
}

/** The text for an example if it needs no quoting. */
function word(text: string): string {
  return /^[\w .-]{1,30}$/.test(text) ? text : "text";
}

/** How many lines are published together at most. */
const batchLines = 1000;
/** How many characters are published together at most, unless one line is longer. */
const batchCharacters = 4 * 1024 * 1024;
/** How long an unfinished batch waits for more lines, in ms: lines of a slow pipe come promptly. */
const patience = 50;

/** The form of the lines, and what all notifications get. */
export interface LineOptions {
  /** The channel for lines without one. */
  readonly channel?: string;
  /** Whether a line is an object with channel, payload, key and headers. */
  readonly envelope: boolean;
  /** Whether a line is text rather than JSON. */
  readonly text: boolean;
  /** The key of each notification. */
  readonly key?: NewNotification["key"];
  /** The headers of each notification. */
  readonly headers?: NewNotification["headers"];
}

/**
 * Reads lines and gives checked batches of notifications. A wrong line ends it with an error that
 * names the line; the batch with that line is not given.
 */
export async function* notificationsIn(
  stream: ReadableStream<Uint8Array>,
  options: LineOptions,
): AsyncGenerator<NewNotification<string>[], void, undefined> {
  let batch: NewNotification<string>[] = [];
  let characters = 0;
  let number = 0;
  const lines = linesIn(stream);
  let next = lines.next();
  for (;;) {
    const isFull = batch.length >= batchLines || characters >= batchCharacters;
    if (isFull || batch.length > 0 && !await soon(next)) {
      yield batch;
      batch = [];
      characters = 0;
    }
    const { value: line, done } = await next;
    if (done) break;
    next = lines.next();
    next.catch(() => {}); // reported when it is awaited
    number++;
    if (!options.text && line.trim() === "") continue;
    try {
      batch.push(parseLine(line, options));
    } catch (error) {
      const { message, code } = error as Error & { code?: HarkError["code"] };
      throw new HarkError(
        code ?? "BAD_PAYLOAD",
        `line ${number}: ${code === undefined ? `${show(line)} is not JSON` : message}`,
        {
          cause: error,
          ...(code === undefined
            ? { remedy: "Give one JSON value on each line, or add --text for lines of text." }
            : {}),
        },
      );
    }
    characters += line.length;
  }
  if (batch.length > 0) yield batch;
}

function parseLine(line: string, options: LineOptions): NewNotification<string> {
  const value = options.text ? line : parseExact(line);
  const notification = options.envelope ? opened(value, options.channel) : {
    channel: options.channel!,
    payload: value,
    key: options.key ?? null,
    headers: options.headers ?? null,
  };
  channelName(notification.channel);
  payloadText(notification.payload);
  keyText(notification.key);
  headersText(notification.headers);
  return notification;
}

/** Fields that `hark tail --json` writes and that cannot be published. */
const onlyInTail = ["id", "createdAt", "isReplay", "position"];

function opened(value: unknown, channel: string | undefined): NewNotification<string> {
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    throw new HarkError("BAD_PAYLOAD", `${show(value)} is not an object`, {
      remedy: "With --envelope a line is {channel, payload, key, headers}.",
    });
  }
  knownOptions("a line", value, ["channel", "payload", "key", "headers", ...onlyInTail]);
  const given = value as Partial<NewNotification<string>>;
  const name = given.channel ?? channel;
  if (name === undefined) {
    throw new HarkError("BAD_CHANNEL", "the line has no channel", {
      remedy: "Name it in the line, or give one for all: hark notify CHANNEL --stdin --envelope",
    });
  }
  return {
    channel: name,
    payload: given.payload === undefined ? {} : given.payload,
    key: given.key ?? null,
    headers: given.headers ?? null,
  };
}

/** Whether a promise settles while a batch may wait. */
async function soon(promise: Promise<unknown>): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<false>((resolve) => timer = setTimeout(() => resolve(false), patience));
  try {
    return await Promise.race([promise.then(() => true, () => true), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Splits a stream into lines; the last line needs no line break. */
async function* linesIn(
  stream: ReadableStream<Uint8Array>,
): AsyncGenerator<string, void, undefined> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const decode = (bytes?: Uint8Array): string => {
    try {
      return bytes === undefined ? decoder.decode() : decoder.decode(bytes, { stream: true });
    } catch (error) {
      throw new HarkError("BAD_PAYLOAD", "standard input is not UTF-8", { cause: error });
    }
  };
  // Pieces of an unfinished line. Joining them at each chunk would copy a long line many times.
  let pieces: string[] = [];
  for await (const bytes of stream) {
    const parts = decode(bytes).split("\n");
    for (const part of parts.slice(0, -1)) {
      yield withoutReturn(pieces.join("") + part);
      pieces = [];
    }
    pieces.push(parts.at(-1) ?? "");
  }
  pieces.push(decode());
  const rest = pieces.join("");
  if (rest !== "") yield withoutReturn(rest);
}

function withoutReturn(line: string): string {
  return line.endsWith("\r") ? line.slice(0, -1) : line;
}
