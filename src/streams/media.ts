/**
 * How notifications are written, by the media type of the stream.
 *
 * @module
 */

import type { Item } from "./edge.ts";
import { atOnce, Made } from "./made.ts";
import type { CheckedRoute, StreamsOptions } from "./options.ts";

const encoder = new TextEncoder();

/** Writes messages for one client. */
export class Media {
  readonly contentType: string;
  readonly #kind: "json" | "text" | "bytes";
  readonly #filter: CheckedRoute["filter"];
  readonly #typed: CheckedRoute["typed"];
  readonly #message: StreamsOptions["message"];

  constructor({ contentType, filter, typed }: CheckedRoute, message: StreamsOptions["message"]) {
    this.contentType = contentType;
    this.#kind = /^application\/json\b/i.test(contentType)
      ? "json"
      : /^text\//i.test(contentType)
      ? "text"
      : "bytes";
    this.#filter = filter;
    this.#typed = typed;
    this.#message = message;
  }

  /** Whether events have it in base64. */
  get isBinary(): boolean {
    return this.#kind === "bytes";
  }

  /** Those that the client is given, decoded. */
  async chosen(items: readonly Item[]): Promise<Made[]> {
    const all = items.map((item) => Made.of(item, this.#typed.get(item.row!.channel)));
    for (const { ready } of all) if (ready !== undefined) await ready;
    return all.filter((made) => this.#isSent(made));
  }

  /**
   * Whether a notification is sent. One that cannot be is left out: a client that came back to its place
   * would fail there again.
   */
  #isSent(made: Made): boolean {
    if (made.notification.problem !== undefined) return false;
    try {
      if (this.#filter !== undefined && !atOnce("filter", this.#filter(made.notification))) {
        return false;
      }
      if (!made.write(this.#message)) return false;
      if (this.#kind === "bytes") Uint8Array.fromBase64(stringIn(made));
      return true;
    } catch (error) {
      made.fail(error);
      return false;
    }
  }

  /** The body of a response. */
  body(items: readonly Made[]): Uint8Array<ArrayBuffer> {
    if (this.#kind === "json") {
      return encoder.encode(`[${items.map(({ text }) => text).join(",")}]`);
    }
    const texts = items.map(stringIn);
    if (this.#kind === "text") return encoder.encode(texts.join(""));
    const parts = texts.map((text) => Uint8Array.fromBase64(text));
    const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }

  /** The data of one event with all of them. */
  data(items: readonly Made[]): string {
    switch (this.#kind) {
      case "json":
        return `data:[${items.map(({ text }) => text).join(",")}]\n`;
      case "text":
        return linesOf(items.map(stringIn).join(""));
      case "bytes":
        return `data:${this.body(items).toBase64()}\n`;
    }
  }

  /** One event for one of them, with its position as its id. It is made once for all clients. */
  event(item: Made): Uint8Array {
    if (item.event !== undefined && this.#kind === "json") return item.event;
    const data = this.#kind === "json" ? `data: ${item.text}\n` : linesOf(stringIn(item));
    const bytes = encoder.encode(`id: ${item.position}\n${data}\n`);
    if (this.#kind === "json") item.event = bytes;
    return bytes;
  }
}

/** The text that a payload is. Of another value, its JSON. */
function stringIn({ text }: Made): string {
  const value: unknown = JSON.parse(text!);
  return typeof value === "string" ? value : text!;
}

/** The lines of a text as data of an event. A space at the beginning of a line would be lost. */
function linesOf(text: string): string {
  return text.split(/\r\n|\r|\n/)
    .map((line) => `data:${line.startsWith(" ") ? " " : ""}${line}\n`).join("");
}
