/**
 * Notifications from lines of JSON.
 *
 * @module
 */

import { channelName, knownOptions, show } from "../check.ts";
import { HarkError } from "../errors.ts";
import type { NewNotification } from "../publish/notify.ts";
import { headersText, keyText, payloadText } from "../publish/payload.ts";
import { parseJson } from "./json.ts";

/** The most lines that are published together. */
const BATCH_LINES = 1000;
/** The most characters that are published together, beyond one line. */
const BATCH_CHARACTERS = 4 * 1024 * 1024;
/** A partial batch waits this long for more lines, in ms, so that a slow pipe is published promptly. */
const PATIENCE = 50;

/** What the lines are, and what they all have. */
export interface LineOptions {
  /** The channel of lines that name none. */
  readonly channel: string | undefined;
  /** Lines are objects with channel, payload, key and headers. */
  readonly envelope: boolean;
  /** Lines are text rather than JSON. */
  readonly text: boolean;
  /** The key of every payload. */
  readonly key?: string | null;
  /** The headers of every payload. */
  readonly headers?: NewNotification["headers"];
}

/**
 * Reads lines and gives batches of notifications, checked. A wrong line ends it with an error that
 * names the line; those before it in its batch are not given.
 */
export async function* notificationsIn(
  stream: ReadableStream<Uint8Array>,
  options: LineOptions,
): AsyncGenerator<NewNotification[], void, undefined> {
  let batch: NewNotification[] = [];
  let characters = 0;
  let number = 0;
  const lines = linesIn(stream);
  let next = lines.next();
  for (;;) {
    if (batch.length > 0 && !await soon(next)) {
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
            ? { remedy: "Give one JSON value a line, or --text for lines of text." }
            : {}),
        },
      );
    }
    characters += line.length;
    if (batch.length >= BATCH_LINES || characters >= BATCH_CHARACTERS) {
      yield batch;
      batch = [];
      characters = 0;
    }
  }
  if (batch.length > 0) yield batch;
}

function parseLine(line: string, options: LineOptions): NewNotification {
  const value = options.text ? line : parseJson(line);
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

/** What `hark tail --json` writes beside what can be published. */
const alsoInATail = ["id", "createdAt", "isReplay"];

function opened(value: unknown, channel: string | undefined): NewNotification {
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    throw new HarkError("BAD_PAYLOAD", `${show(value)} is not an object`, {
      remedy: "With --envelope a line is {channel, payload, key, headers}.",
    });
  }
  knownOptions("a line", value, ["channel", "payload", "key", "headers", ...alsoInATail]);
  const given = value as Partial<NewNotification>;
  const name = given.channel ?? channel;
  if (name === undefined) {
    throw new HarkError("BAD_CHANNEL", "there is no channel", {
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

/** Whether a promise settles before the patience ends. */
async function soon(promise: Promise<unknown>): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<false>((resolve) => timer = setTimeout(() => resolve(false), PATIENCE));
  try {
    return await Promise.race([promise.then(() => true, () => true), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Splits a stream into lines; the last one needs no line break. */
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
  // Pieces of an unfinished line, joined once: a line of many chunks is not copied again and again.
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
