/**
 * Starting, sharing, stopping and killing an embedded server.
 *
 * @module
 */

import { HarkError } from "../errors.ts";
import * as clusters from "./cluster.ts";
import { type Address, answerAt, makeDatabase, serverProcesses, urlOf } from "./connect.ts";
import { type Lock, lock, tryLock } from "./locks.ts";
import type { EmbeddedOptions, EmbeddedServer } from "./options.ts";
import { type Places, readAddress, removeRecord, writeAddress, writeRecord } from "./record.ts";

/** How long to wait for another process that starts or stops the same server, in ms. */
const TURN_DEADLINE = 150_000;
/** How long a server may take to recover or to end before it counts as stuck, in ms. */
const BUSY_DEADLINE = 60_000;
/** How long an ordinary stop may take, in seconds. */
const STOP_SECONDS = 60;

/** Everything that a {@linkcode Server} is created from. */
export interface Plan {
  readonly options: EmbeddedOptions;
  readonly places: Places;
  readonly cluster: clusters.Cluster;
  /** Settings that precede the user's. */
  readonly settings: Readonly<Record<string, string>>;
  /** Removes the remains of an ephemeral server; undefined for a server that is kept. */
  readonly remove: (() => Promise<void>) | undefined;
  /** The data folder of a stopped server, to begin with a copy of; undefined for an empty database. */
  readonly copyOf: string | undefined;
}

/** An embedded server, shared with all processes that have started the same data folder. */
export class Server implements EmbeddedServer {
  readonly dataDir: string;
  readonly #plan: Plan;
  #address: Address = { port: 0, password: "" };
  #pid: number | undefined;
  #use: Lock | undefined;
  #killed = false;

  constructor(plan: Plan) {
    this.#plan = plan;
    this.dataDir = plan.cluster.dataDir;
  }

  get url(): string {
    return urlOf(this.#address);
  }
  get port(): number {
    return this.#address.port;
  }
  get pid(): number | undefined {
    return this.#pid;
  }
  get version(): string {
    return this.#plan.cluster.binaries.version;
  }

  async start(): Promise<void> {
    const { places, cluster } = this.#plan;
    using _turn = await lock(places.turn, "alone", TURN_DEADLINE);
    await this.#bringUp();
    await makeDatabase(this.#address);
    this.#pid = (await clusters.readPostmaster(this.dataDir))?.pid;
    this.#killed = false;
    await writeRecord(places, {
      url: this.url,
      pid: this.#pid ?? 0,
      port: this.port,
      dataDir: this.dataDir,
      version: cluster.binaries.version,
    });
    await this.use();
  }

  /**
   * Marks the server as used, which keeps other processes from stopping or removing it when they
   * end.
   */
  async use(): Promise<void> {
    this.#use ??= await lock(this.#plan.places.users, "shared", TURN_DEADLINE);
  }

  async stop(mode: clusters.StopMode = "fast"): Promise<void> {
    using _turn = await lock(this.#plan.places.turn, "alone", TURN_DEADLINE);
    await this.#bringDown(mode);
    this.#letGo();
  }

  async kill(): Promise<void> {
    const { places, cluster } = this.#plan;
    using _turn = await lock(places.turn, "alone", TURN_DEADLINE);
    const postmaster = await clusters.readPostmaster(this.dataDir);
    if (postmaster === undefined) return;
    const others = await serverProcesses(this.#address).catch(() => []);
    // Kill the postmaster first: a postmaster that sees its children die ends the others and starts
    // anew.
    await clusters.signalProcess(cluster, "KILL", postmaster.pid);
    await Promise.all(others.map((pid) => clusters.signalProcess(cluster, "KILL", pid)));
    const end = performance.now() + 10_000;
    while (await answerAt(this.#address) !== "none" && performance.now() < end) await pause(10);
    await clusters.removePostmaster(this.dataDir);
    await removeRecord(places);
    this.#pid = undefined;
    this.#killed = true;
    this.#letGo();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { places, remove } = this.#plan;
    using _turn = await lock(places.turn, "alone", TURN_DEADLINE);
    this.#use?.[Symbol.dispose]();
    this.#use = undefined;
    using last = await tryLock(places.users, "alone");
    if (last === undefined) return; // another process still uses it
    await this.#bringDown("fast").catch(() => this.#bringDown("immediate"));
    if (remove === undefined) return;
    // A killed server leaves its shared memory for the next start to remove. Here no start would
    // follow, so start and stop it once.
    if (this.#killed && await clusters.startCluster(this.#plan.cluster)) {
      await clusters.stopCluster(this.#plan.cluster, "immediate", STOP_SECONDS);
    }
    await remove();
  }

  /**
   * Releases this process's share of the users' lock. An ephemeral server keeps it, because the
   * sweep of another start would otherwise remove its data.
   */
  #letGo(): void {
    if (this.#plan.remove !== undefined) return;
    this.#use?.[Symbol.dispose]();
    this.#use = undefined;
  }

  /** Starts the server unless it is running. */
  async #bringUp(): Promise<void> {
    const { options, cluster, copyOf } = this.#plan;
    let address = await readAddress(this.dataDir);
    if (address === undefined && copyOf !== undefined) {
      await clusters.copyCluster(cluster, copyOf);
      const copied = await readAddress(this.dataDir);
      // Not the port that the folder had: all copies would want it, and one that is down for a moment
      // would find another in its place.
      if (copied !== undefined) address = { ...copied, port: 0 };
    }
    const isNew = address === undefined;
    if (address === undefined) {
      address = { port: options.port ?? freePort(), password: newPassword() };
      const { password } = address;
      await clusters.makeCluster(
        cluster,
        password,
        options.ephemeral ?? false,
        (unfinished) => writeAddress(cluster.account, unfinished, { port: 0, password }),
      );
    }
    if (!isNew && await this.#isUp(address)) return;

    const { password } = address;
    const fixed = options.port ?? (this.port === 0 ? undefined : this.port);
    for (let attempt = 1; attempt <= 5; attempt++) {
      // Prefer the last port, so that URLs in other terminals stay valid.
      const port = fixed ?? (attempt === 1 && isFree(address.port) ? address.port : freePort());
      this.#address = { port, password };
      await clusters.writeSettings(cluster, {
        ...this.#plan.settings,
        ...options.settings,
        listen_addresses: "127.0.0.1",
        port: String(port),
      });
      if (await clusters.startCluster(cluster)) {
        await writeAddress(cluster.account, this.dataDir, this.#address);
        return;
      }
      if (fixed !== undefined) break;
    }
    throw new HarkError("EMBEDDED", `port ${this.port} of 127.0.0.1 is taken`, {
      remedy: "Give another port, or none to use a free one.",
    });
  }

  /**
   * Whether the server of the data folder is running. Waits for a server that is recovering or
   * ending.
   */
  async #isUp({ password }: Address): Promise<boolean> {
    const end = performance.now() + BUSY_DEADLINE;
    for (;;) {
      const postmaster = await clusters.readPostmaster(this.dataDir);
      if (postmaster === undefined) return false;
      const address = { port: postmaster.port, password };
      const answer = await answerAt(address);
      if (answer === "ready") {
        this.#address = address;
        return true;
      }
      if (answer === "none") await clusters.removePostmaster(this.dataDir);
      // Another program has the port. The server checks at its start whether its predecessor is
      // gone.
      if (answer !== "busy") return false;
      if (performance.now() > end) {
        throw new HarkError(
          "EMBEDDED",
          `the server in ${this.dataDir} (process ${postmaster.pid}) has not answered for 60 s`,
          { remedy: "End that process, then start again." },
        );
      }
      await pause(50);
    }
  }

  async #bringDown(mode: clusters.StopMode): Promise<void> {
    const { places, cluster } = this.#plan;
    const postmaster = await clusters.readPostmaster(this.dataDir);
    if (postmaster !== undefined) {
      const { password } = await readAddress(this.dataDir) ?? this.#address;
      const answer = await answerAt({ port: postmaster.port, password }).catch(() => "busy");
      if (answer !== "none") {
        await clusters.stopCluster(cluster, mode, STOP_SECONDS);
      } else {
        // It was killed. pg_ctl would send the signal to whichever process has its number now.
        await clusters.removePostmaster(this.dataDir);
        this.#killed = true;
      }
    }
    await removeRecord(places);
    this.#pid = undefined;
  }
}

/**
 * A port of 127.0.0.1 that is free at this moment. It is below those that systems give to outgoing
 * connections. Otherwise a connection could take it while the server is restarted.
 */
function freePort(): number {
  for (let tries = 0; tries < 20; tries++) {
    const port = 15_000 + Math.floor(Math.random() * 17_000);
    if (isFree(port)) return port;
  }
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return (listener.addr as Deno.NetAddr).port;
}

function isFree(port: number): boolean {
  if (port === 0) return false;
  try {
    Deno.listen({ hostname: "127.0.0.1", port }).close();
    return true;
  } catch {
    return false;
  }
}

function newPassword(): string {
  return crypto.getRandomValues(new Uint8Array(18)).toBase64({ alphabet: "base64url" });
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
