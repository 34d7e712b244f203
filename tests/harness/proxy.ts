/**
 * A TCP proxy whose line can be cut: what happens to a client when the network does that.
 *
 * @module
 */

/** A proxy in front of one port. Point the client at {@linkcode CutProxy.port}. */
export interface CutProxy extends AsyncDisposable {
  /** The proxy's own port on 127.0.0.1. */
  readonly port: number;
  /** How many connections are open through it. */
  readonly connections: number;
  /** The given URL with the proxy's host and port. */
  through(url: string): string;
  /** A black hole: nothing is forwarded, nothing is closed. New connections are taken, and silent. */
  silence(): void;
  /** Closes every connection on both sides. New ones are served. */
  sever(): void;
  /**
   * Closes every connection, and each new one at once. The proxy keeps its port, so that no other process
   * takes it.
   */
  refuse(): void;
  /** Each new connection is taken, and silent. Those that are open go on. */
  hold(): void;
  /** How many connections {@linkcode hold} keeps silent. */
  readonly held: number;
  /** Ends {@linkcode silence}, {@linkcode hold} and {@linkcode refuse}; what was held back flows. */
  resume(): void;
  /** Holds each piece of data back for this many milliseconds, in both directions. */
  delay(ms: number): void;
}

/** Starts a proxy to `targetPort` of 127.0.0.1. */
export function cutProxy(targetPort: number, hostname = "127.0.0.1"): CutProxy {
  return new Proxy(targetPort, hostname);
}

class Proxy implements CutProxy {
  readonly port: number;
  readonly #target: Deno.ConnectOptions;
  readonly #conns = new Set<Deno.Conn>();
  readonly #tasks = new Set<Promise<void>>();
  readonly #timers = new Map<ReturnType<typeof setTimeout>, () => void>();
  readonly #listener: Deno.TcpListener;
  #open = Promise.withResolvers<void>();
  /** What new connections wait for. */
  #entrance = Promise.withResolvers<void>();
  held = 0;
  #refuses = false;
  #delay = 0;

  constructor(port: number, hostname: string) {
    this.#target = { hostname, port };
    this.#open.resolve();
    this.#entrance.resolve();
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    this.port = this.#listener.addr.port;
    this.#run(async () => {
      for (;;) {
        const client = await this.#listener.accept();
        if (this.#refuses) close(client);
        else this.#run(() => this.#connect(client));
      }
    });
  }

  get connections(): number {
    return this.#conns.size / 2;
  }

  through(url: string): string {
    const changed = new URL(url);
    changed.hostname = "127.0.0.1";
    changed.port = String(this.port);
    return changed.href;
  }

  silence(): void {
    this.#open.resolve();
    this.#open = Promise.withResolvers();
  }

  sever(): void {
    for (const conn of this.#conns) close(conn);
    this.#conns.clear();
  }

  refuse(): void {
    this.#refuses = true;
    this.sever();
  }

  hold(): void {
    this.#entrance.resolve();
    this.#entrance = Promise.withResolvers();
  }

  resume(): void {
    this.#open.resolve();
    this.#entrance.resolve();
    this.#refuses = false;
  }

  delay(ms: number): void {
    this.#delay = ms;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    close(this.#listener);
    this.refuse();
    this.#open.resolve();
    this.#entrance.resolve();
    for (const [timer, wake] of this.#timers) {
      clearTimeout(timer);
      wake();
    }
    while (this.#tasks.size > 0) await Promise.all(this.#tasks);
  }

  async #connect(client: Deno.Conn): Promise<void> {
    this.#conns.add(client);
    this.held++;
    await this.#entrance.promise;
    this.held--;
    await this.#open.promise;
    let server: Deno.Conn;
    try {
      server = await Deno.connect(this.#target);
    } catch {
      this.#conns.delete(client);
      return close(client);
    }
    // Severed while it was connecting.
    if (!this.#conns.has(client)) return close(server);
    this.#conns.add(server);
    const end = () => {
      for (const conn of [client, server]) {
        this.#conns.delete(conn);
        close(conn);
      }
    };
    this.#run(() => this.#pump(client, server).finally(end));
    this.#run(() => this.#pump(server, client).finally(end));
  }

  async #pump(from: Deno.Conn, to: Deno.Conn): Promise<void> {
    const buffer = new Uint8Array(64 * 1024);
    for (;;) {
      const size = await from.read(buffer);
      if (size === null) return;
      if (this.#delay > 0) await this.#pause(this.#delay);
      await this.#open.promise;
      for (let sent = 0; sent < size;) sent += await to.write(buffer.subarray(sent, size));
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.#timers.delete(timer);
        resolve();
      }, ms);
      this.#timers.set(timer, resolve);
    });
  }

  /** Runs a loop to its end, which is always an error: its connection or listener was closed. */
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
