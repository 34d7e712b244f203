/**
 * Several drains at once, each over a connection of its own, in a process to be killed and frozen. They are in turn
 * of a consumer "c" that writes to the ledger, and of a transactional one, "t", that writes to the table `done`. Says
 * `ready`, then `drained <count>`.
 *
 *     drains.ts <url> <count> <ledger>
 *
 * @module
 */

import { connect, Consumer } from "../../../mod.ts";
import { drain } from "../../../src/edge/mod.ts";
import { LedgerFile } from "../../delivery/_support/ledger.ts";

const [url, count, file] = Deno.args;
using ledger = new LedgerFile(file!);
const pause = () => new Promise((resolve) => setTimeout(resolve, Math.random() * 20));
console.log("ready");
const results = await Promise.all(
  Array.from({ length: Number(count) }, async (_, n) => {
    await using db = await connect(url, {
      listen: false,
      poolSize: 1,
      // Frozen transactions hold connections of the pooler until their lease ends.
      connectTimeout: 30_000,
    });
    const options = { channels: "c", partitions: 32, lease: 2000 };
    const consumer = n % 2 === 0
      ? new Consumer(db, {
        ...options,
        id: "c",
        async handle(notification) {
          ledger.write("began", "c", notification);
          await pause();
          ledger.write("ended", "c", notification);
        },
      })
      : new Consumer(db, {
        ...options,
        id: "t",
        transactional: true,
        async handle({ key, payload }, { tx }) {
          await tx.query("insert into done (token, key, version) values ($1, $2, $3)", [
            payload.token,
            key,
            payload.version,
          ]);
          await pause();
        },
      });
    return await drain(consumer, { wait: false });
  }),
);
console.log(`drained ${results.reduce((sum, { handled }) => sum + handled, 0)}`);
Deno.exit(0);
