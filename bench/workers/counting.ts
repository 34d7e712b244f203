/**
 * A proxy between a worker and the server. It forwards everything unchanged and counts the bytes in
 * both directions and the statements that the worker sends: simple queries, and executions of
 * prepared statements. It recognises them by the types of PostgreSQL's messages
 * (https://www.postgresql.org/docs/current/protocol-message-formats.html).
 *
 * @module
 */

/** The traffic through the proxy. */
export interface Traffic {
  /** The number of Query and Execute messages. */
  readonly statements: number;
  /** The bytes from the worker and from the server. */
  readonly bytes: number;
  /** The connections that are open at the moment. */
  readonly connections: number;
}

/** A proxy in front of one server. */
export class CountingProxy implements AsyncDisposable {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #conns = new Set<Deno.Conn>();
  readonly #tasks = new Set<Promise<unknown>>();
  #statements = 0;
  #bytes = 0;
  /** The URL to connect to instead of the server's. */
  readonly url: string;

  /** Starts to listen at once. */
  constructor(url: string) {
    const through = new URL(url);
    const target = { hostname: through.hostname, port: Number(through.port || 5432) };
    through.hostname = "127.0.0.1";
    through.port = String((this.#listener.addr as Deno.NetAddr).port);
    // Encrypted messages could not be counted.
    through.searchParams.set("sslmode", "disable");
    this.url = through.href;
    this.#run((async () => {
      for await (const client of this.#listener) {
        const server = await Deno.connect(target);
        this.#conns.add(client).add(server);
        // Without Nagle's algorithm, which would delay messages in a way that no direct connection
        // does.
        (client as Deno.TcpConn).setNoDelay();
        (server as Deno.TcpConn).setNoDelay();
        const close = () => {
          for (const conn of [client, server]) {
            if (this.#conns.delete(conn)) conn.close();
          }
        };
        const messages = new MessageCounter(() => this.#statements++);
        this.#run(this.#pump(client, server, (data) => messages.take(data)).finally(close));
        this.#run(this.#pump(server, client, () => {}).finally(close));
      }
    })());
  }

  /** The traffic so far. */
  get traffic(): Traffic {
    return {
      statements: this.#statements,
      bytes: this.#bytes,
      connections: this.#conns.size / 2,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const conn of this.#conns) conn.close();
    this.#conns.clear();
    await Promise.all(this.#tasks);
  }

  async #pump(from: Deno.Conn, to: Deno.Conn, look: (data: Uint8Array) => void): Promise<void> {
    const buffer = new Uint8Array(64 * 1024);
    for (;;) {
      const size = await from.read(buffer);
      if (size === null) return;
      const data = buffer.subarray(0, size);
      this.#bytes += size;
      look(data);
      for (let sent = 0; sent < size;) sent += await to.write(data.subarray(sent));
    }
  }

  /**
   * Runs a loop. A loop whose connection or listener was closed has ended, whichever error it
   * reports.
   */
  #run(loop: Promise<unknown>): void {
    const task: Promise<unknown> = loop.catch((error) => {
      const over = [
        Deno.errors.BadResource,
        Deno.errors.Interrupted,
        Deno.errors.ConnectionReset,
        Deno.errors.BrokenPipe,
        Deno.errors.NotConnected,
      ];
      if (!over.some((type) => error instanceof type)) console.error(error);
    }).finally(() => this.#tasks.delete(task));
    this.#tasks.add(task);
  }
}

/** Finds the messages in what a client sends. */
class MessageCounter {
  readonly #found: () => void;
  /** The bytes of a header that has not fully arrived. */
  #header: number[] = [];
  /** The bytes of the current message that have not arrived. */
  #rest = 0;
  /** Whether the first message has arrived: the first message of a connection has no type. */
  #started = false;

  constructor(found: () => void) {
    this.#found = found;
  }

  take(data: Uint8Array): void {
    for (let at = 0; at < data.length;) {
      if (this.#rest > 0) {
        const skipped = Math.min(this.#rest, data.length - at);
        this.#rest -= skipped;
        at += skipped;
        continue;
      }
      this.#header.push(data[at++]!);
      const typed = this.#started ? 1 : 0;
      if (this.#header.length < 4 + typed) continue;
      const length = this.#header.slice(typed).reduce((sum, byte) => sum * 256 + byte, 0);
      // The types Q (Query) and E (Execute).
      if (typed === 1 && (this.#header[0] === 0x51 || this.#header[0] === 0x45)) this.#found();
      this.#rest = length - 4;
      this.#header = [];
      this.#started = true;
    }
  }
}
