import assert from "node:assert/strict";
import { type Client, connect as plain, disconnect, ownServer, until } from "../harness/mod.ts";
import { connect } from "../../mod.ts";
import { Reading, Running } from "../faults/_support/running.ts";
import { committed, Publishers, publishersSql } from "./_support/publishers.ts";

/**
 * Uses up transaction numbers that never reach the disk: rolled back before they wrote. A server that
 * crashes hands them out again, to transactions that publish.
 */
class Burner implements AsyncDisposable {
  readonly #url: string;
  readonly #done: Promise<void>;
  #stop = false;
  burnt = 0;

  constructor(url: string) {
    this.#url = url;
    this.#done = this.#run();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop = true;
    await this.#done;
  }

  async #run(): Promise<void> {
    let client: Client | undefined;
    while (!this.#stop) {
      try {
        client ??= await plain(this.#url);
        await client.query("begin; select pg_current_xact_id(); rollback;");
        this.burnt++;
        await new Promise((resolve) => setTimeout(resolve, 1));
      } catch {
        if (client !== undefined) await disconnect(client);
        client = undefined;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
    if (client !== undefined) await disconnect(client);
  }
}

for (const end of ["immediate", "kill"] as const) {
  const how = end === "kill" ? "killed" : "stopped at once, by SIGQUIT";
  Deno.test(`a server ${how} under load loses nothing for a consumer with partitions, or for a subscription`, async () => {
    await using server = await ownServer();
    await server.sql(publishersSql);
    await using db = await connect(server.url, { maxReconnectDelay: 200 });
    await using running = new Running(db, {
      partitions: 4,
      concurrency: 4,
      acknowledgeInterval: 20,
    });
    await using reading = new Reading(db, "c", { from: "beginning" });
    await using load = new Publishers(server.url, { publishers: 3, pause: 5, slow: 0.005 });
    await using burner = new Burner(server.url);
    for (let crash = 0; crash < 3; crash++) {
      const [handled, read, burnt] = [running.inbox, reading.inbox].map((i) => i.items.length)
        .concat(burner.burnt) as [number, number, number];
      await until(
        () =>
          running.inbox.items.length > handled + 100 && reading.inbox.items.length > read + 100 &&
          burner.burnt > burnt + 50,
        { what: "work to go on" },
      );
      if (end === "kill") await server.kill();
      else await server.stop("immediate");
      await server.start();
    }
    await load.stop();
    const published = await committed(server);
    for (const [who, { inbox }] of [["consumer", running], ["subscription", reading]] as const) {
      const missing = () => {
        const seen = new Set(inbox.items.map((n) => n.payload.token));
        return published.filter(({ token }) => !seen.has(token));
      };
      await until(() => missing().length === 0, { deadline: 20_000 }).catch(() => {});
      assert.deepEqual(missing(), [], `the ${who} has lost some of ${published.length}`);
      const known = new Set(published.map(({ token }) => token));
      const ghosts = inbox.items.filter((n) => !known.has(n.payload.token));
      assert.deepEqual(ghosts, [], `the ${who} was given what was never committed`);
    }
  });
}
