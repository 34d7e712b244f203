/**
 * A line to a server that fails in ways of its own: half-open connections, another server at the
 * other end, notifications that never arrive.
 *
 * @module
 */

/** A proxy on 127.0.0.1. */
export class Line implements AsyncDisposable {
  /** The port of 127.0.0.1 that new connections are led to. */
  target: number;
  /**
   * Whether it seems a transaction pooler: notifications to clients are taken out, and a client is
   * told another number than that of the server's process.
   */
  deaf = false;
  /** How many connections were asked for. */
  asked = 0;
  /** When the last connection was asked for, by `performance.now()`. */
  askedAt = 0;
  readonly port: number;
  readonly #listener: Deno.Listener;
  readonly #pairs = new Set<Pair>();
  readonly #tasks = new Set<Promise<void>>();

  constructor(target: number) {
    this.target = target;
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    this.port = (this.#listener.addr as Deno.NetAddr).port;
    this.#run(async () => {
      for (;;) {
        const client = await this.#listener.accept();
        this.asked++;
        this.askedAt = performance.now();
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

  /** The connections there are now go silent for good, both ways, and stay open; new ones work. */
  halfOpen(): void {
    for (const pair of this.#pairs) pair.silent = true;
  }

  /** Ends the connections there are now, on both sides. */
  sever(): void {
    for (const pair of this.#pairs) pair.close();
    this.#pairs.clear();
  }

  /** Ends everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    close(this.#listener);
    this.sever();
    while (this.#tasks.size > 0) await Promise.all(this.#tasks);
  }

  async #connect(client: Deno.Conn): Promise<void> {
    let server: Deno.Conn;
    try {
      server = await Deno.connect({ hostname: "127.0.0.1", port: this.target });
    } catch {
      return close(client);
    }
    const pair = new Pair(client, server);
    this.#pairs.add(pair);
    const end = () => {
      // A silent one tells neither side that the other is gone.
      if (pair.silent) return;
      pair.close();
      this.#pairs.delete(pair);
    };
    const filter = new Deafness();
    this.#run(() => pump(client, server, pair, (bytes) => bytes).finally(end));
    this.#run(() =>
      pump(server, client, pair, (bytes) => filter.pass(bytes, this.deaf)).finally(end)
    );
  }

  #run(loop: () => Promise<void>): void {
    const task: Promise<void> = loop().catch(() => {}).finally(() => this.#tasks.delete(task));
    this.#tasks.add(task);
  }
}

class Pair {
  silent = false;
  constructor(readonly client: Deno.Conn, readonly server: Deno.Conn) {}
  close(): void {
    close(this.client);
    close(this.server);
  }
}

async function pump(
  from: Deno.Conn,
  to: Deno.Conn,
  pair: Pair,
  filter: (bytes: Uint8Array) => Uint8Array,
): Promise<void> {
  const buffer = new Uint8Array(64 * 1024);
  for (;;) {
    const size = await from.read(buffer);
    if (size === null) return;
    if (pair.silent) continue;
    const bytes = filter(buffer.subarray(0, size));
    for (let sent = 0; sent < bytes.length;) sent += await to.write(bytes.subarray(sent));
  }
}

/**
 * Takes NotificationResponse messages out of what a server sends, and changes BackendKeyData.
 * https://www.postgresql.org/docs/current/protocol-message-formats.html
 */
class Deafness {
  #rest: Uint8Array = new Uint8Array();

  pass(bytes: Uint8Array, deaf: boolean): Uint8Array {
    const all = new Uint8Array(this.#rest.length + bytes.length);
    all.set(this.#rest);
    all.set(bytes, this.#rest.length);
    const view = new DataView(all.buffer);
    const kept: Uint8Array[] = [];
    let at = 0;
    while (at + 5 <= all.length) {
      const end = at + 1 + view.getUint32(at + 1);
      if (end > all.length) break;
      if (deaf && all[at] === "K".charCodeAt(0)) view.setInt32(at + 5, -view.getInt32(at + 5));
      if (!(deaf && all[at] === "A".charCodeAt(0))) kept.push(all.subarray(at, end));
      at = end;
    }
    this.#rest = all.slice(at);
    const out = new Uint8Array(kept.reduce((sum, part) => sum + part.length, 0));
    let place = 0;
    for (const part of kept) {
      out.set(part, place);
      place += part.length;
    }
    return out;
  }
}

function close(resource: { close(): void }): void {
  try {
    resource.close();
  } catch {
    // closed already
  }
}
