import assert from "node:assert/strict";
import { connect } from "../../mod.ts";
import { test, until } from "../harness/mod.ts";
import { NEVER_POLL, numbers, publish, Running } from "./_support/running.ts";

/** Leads to the server. Once it is armed, it loses the answer of the next claim, with the connection. */
class Thief implements AsyncDisposable {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #open = new Set<Deno.Conn>();
  readonly #tasks: Promise<void>[] = [];
  readonly #port: number;
  /** Whether what is asked, but for LISTEN, does not reach the server. */
  holds = false;
  held = 0;
  armed = false;
  stolen = 0;

  constructor(port: number) {
    this.#port = port;
    this.#tasks.push(this.#accept());
  }

  through(url: string): string {
    const changed = new URL(url);
    changed.host = `127.0.0.1:${(this.#listener.addr as Deno.NetAddr).port}`;
    return changed.href;
  }

  async #accept(): Promise<void> {
    for await (const client of this.#listener) {
      const server = await Deno.connect({ hostname: "127.0.0.1", port: this.#port });
      const pair = { steals: false, listens: false };
      for (const one of [client, server]) this.#open.add(one);
      this.#tasks.push(
        this.#pump(client, server, (bytes) => {
          const text = new TextDecoder("latin1").decode(bytes);
          pair.listens ||= /listen hark/i.test(text);
          pair.steals ||= this.armed && text.includes("hark.claim(");
          if (!this.holds || pair.listens) return "pass";
          this.held++;
          return "drop";
        }),
        this.#pump(server, client, () => {
          if (!pair.steals) return "pass";
          // The server has carried it out.
          this.armed = false;
          this.stolen++;
          return "end";
        }),
      );
    }
  }

  async #pump(
    from: Deno.Conn,
    to: Deno.Conn,
    judge: (bytes: Uint8Array) => "pass" | "drop" | "end",
  ) {
    const buffer = new Uint8Array(64 * 1024);
    try {
      for (let size; (size = await from.read(buffer)) !== null;) {
        const bytes = buffer.subarray(0, size);
        const verdict = judge(bytes);
        if (verdict === "drop") continue;
        if (verdict === "end") break;
        for (let sent = 0; sent < bytes.length;) sent += await to.write(bytes.subarray(sent));
      }
    } catch {
      // It was cut.
    }
    for (const one of [from, to]) this.#close(one);
  }

  #close(one: Deno.Conn): void {
    if (this.#open.delete(one)) one.close();
  }

  cut(): void {
    for (const one of this.#open) this.#close(one);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    this.cut();
    await Promise.allSettled(this.#tasks);
  }
}

test("a claim whose answer is lost on the way repeats nothing", async (context) => {
  const thief = context.use(new Thief(Number(new URL(context.url).port || 5432)));
  const db = context.use(await connect(thief.through(context.url), { maxReconnectDelay: 200 }));
  const running = context.use(
    new Running(db, {
      lease: 60_000,
      pollInterval: NEVER_POLL,
      acknowledgeInterval: 3_600_000,
      acknowledgeCount: 1_000_000,
    }),
  );
  await publish(context, 1, 50);
  await running.atLeast(50);
  const epoch = async () => (await context.sql("select epoch::int from hark.partitions"))[0].epoch;
  const before = await epoch();
  // The worker asks for what is published, and is cut off.
  thief.holds = true;
  await publish(context, 51, 60);
  await until(() => thief.held > 0, { what: "the worker to ask" });
  thief.holds = false;
  thief.armed = true;
  thief.cut();
  await until(async () => thief.stolen === 1 && await epoch() >= before + 2, {
    what: "a claim whose answer was lost, and another one",
  });
  await running.atLeast(60);
  assert.deepEqual(running.payloads, numbers(1, 60));
});
