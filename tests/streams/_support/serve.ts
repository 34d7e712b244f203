/**
 * A server of streams for a test.
 *
 * @module
 */

import type { Database } from "../../../mod.ts";
import { quietPort } from "../../harness/ports.ts";
import { streams, type StreamsOptions } from "../../../src/streams/mod.ts";

/** Where the streams are. Disposing of it ends the server. */
export interface Served extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
}

/** Serves streams until disposed of. Everybody may read. */
export function serve(
  db: Database,
  options: Partial<StreamsOptions> = {},
  port = quietPort(),
  around: (handle: (request: Request) => Promise<Response>, request: Request) => Promise<Response> =
    (handle, request) => handle(request),
): Served {
  const end = new AbortController();
  const handle = streams(db, { authorize: () => true, signal: end.signal, ...options });
  const server = Deno.serve(
    { port, hostname: "127.0.0.1", onListen: () => {} },
    (request) => around(handle, request),
  );
  return {
    url: `http://127.0.0.1:${server.addr.port}/`,
    port: server.addr.port,
    async [Symbol.asyncDispose]() {
      end.abort();
      await server.shutdown();
    },
  };
}

/** An event as an `EventSource` has it. */
export interface Event {
  readonly type: string;
  readonly data: string;
  readonly id: string;
}

/** Reads events until disposed of. */
export class Events implements AsyncDisposable {
  readonly all: Event[] = [];
  lastId = "";
  readonly response: Promise<Response>;
  readonly #end = new AbortController();
  readonly done: Promise<void>;

  constructor(url: string, headers: Record<string, string> = {}) {
    this.response = fetch(url, {
      headers: { accept: "text/event-stream", ...headers },
      signal: this.#end.signal,
    });
    this.done = this.#read();
    this.done.catch(() => {});
  }

  /** The data of all messages. */
  get messages(): unknown[] {
    return this.all.filter(({ type }) => type === "message").map(({ data }) => JSON.parse(data));
  }

  async #read(): Promise<void> {
    const response = await this.response;
    if (!response.ok) return void await response.body?.cancel();
    let text = "";
    for await (const piece of response.body!.pipeThrough(new TextDecoderStream())) {
      text += piece;
      for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
        this.#take(text.slice(0, end));
      }
    }
  }

  #take(block: string): void {
    let type = "message";
    const data: string[] = [];
    for (const line of block.split("\n")) {
      const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line)!;
      if (name === "event") type = value!;
      if (name === "data") data.push(value!);
      if (name === "id") this.lastId = value!;
    }
    if (data.length > 0) this.all.push({ type, data: data.join("\n"), id: this.lastId });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort();
    await this.done.catch(() => {});
  }
}
