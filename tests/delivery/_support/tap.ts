/**
 * A line to a server that stops at a word: what a client sends from there on never leaves it.
 *
 * @module
 */

import { deferred, type Wait } from "../../harness/mod.ts";

/** A proxy on 127.0.0.1 that can be armed with a word. */
export class Tap implements AsyncDisposable {
  readonly port: number;
  readonly #target: number;
  readonly #listener: Deno.Listener;
  readonly #conns = new Set<Deno.Conn>();
  readonly #tasks = new Set<Promise<void>>();
  readonly #reached = deferred("the word to be sent");
  readonly #open = deferred("the tap to be opened");
  #word: RegExp | undefined;

  constructor(target: number) {
    this.#target = target;
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    this.port = (this.#listener.addr as Deno.NetAddr).port;
    this.#run(async () => {
      for (;;) {
        const client = await this.#listener.accept();
        this.#run(() => this.#connect(client));
      }
    });
  }

  /** The URL with this line's port. */
  through(url: string): string {
    const changed = new URL(url);
    changed.hostname = "127.0.0.1";
    changed.port = String(this.port);
    return changed.href;
  }

  /** Holds back the next piece of data from any client that has the word in it, and all after it. */
  arm(word: RegExp): void {
    this.#word = word;
  }

  /** Waits until a client has sent the word. */
  async reached(wait?: Wait): Promise<void> {
    await this.#reached.wait(wait);
  }

  /** Lets what was held back go on. */
  open(): void {
    this.#open.resolve();
  }

  /** Ends everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.open();
    close(this.#listener);
    for (const conn of this.#conns) close(conn);
    while (this.#tasks.size > 0) await Promise.all(this.#tasks);
  }

  async #connect(client: Deno.Conn): Promise<void> {
    const server = await Deno.connect({ hostname: "127.0.0.1", port: this.#target });
    const end = () => [client, server].forEach(close);
    this.#conns.add(client).add(server);
    this.#run(() => this.#pump(client, server, true).finally(end));
    this.#run(() => this.#pump(server, client, false).finally(end));
  }

  async #pump(from: Deno.Conn, to: Deno.Conn, listening: boolean): Promise<void> {
    const buffer = new Uint8Array(64 * 1024);
    const text = new TextDecoder("latin1");
    for (;;) {
      const size = await from.read(buffer);
      if (size === null) return;
      const bytes = buffer.subarray(0, size);
      if (listening && this.#word?.test(text.decode(bytes))) {
        this.#word = undefined;
        this.#reached.resolve();
        await this.#open.wait({ deadline: 120_000 });
      }
      for (let sent = 0; sent < size;) sent += await to.write(bytes.subarray(sent));
    }
  }

  #run(loop: () => Promise<void>): void {
    const task: Promise<void> = loop().catch(() => {}).finally(() => this.#tasks.delete(task));
    this.#tasks.add(task);
  }
}

function close(resource: { close(): void }): void {
  try {
    resource.close();
  } catch {
    // closed already
  }
}
