/**
 * Several drains of one consumer at once, each over a connection of its own, in a process to be killed
 * and frozen. Says `ready`, then `drained <count>`.
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
console.log("ready");
const results = await Promise.all(
  Array.from({ length: Number(count) }, async () => {
    await using db = await connect(url, { listen: false, poolSize: 1 });
    const consumer = new Consumer(db, {
      id: "c",
      channels: ["c"],
      partitions: 8,
      lease: 2000,
      async handle(notification) {
        ledger.write("began", "c", notification);
        await new Promise((resolve) => setTimeout(resolve, Math.random() * 20));
        ledger.write("ended", "c", notification);
      },
    });
    return await drain(consumer, { wait: false });
  }),
);
console.log(`drained ${results.reduce((sum, { handled }) => sum + handled, 0)}`);
Deno.exit(0);
