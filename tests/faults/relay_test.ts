import assert from "node:assert/strict";
import { natsServer } from "../harness/nats.ts";
import { type Fault, inboxLedger, relayLedger, type Result } from "../relay/_support/ledger.ts";

/** How long each goes on, by HARK_LEDGER_SECONDS. Without it, each fault happens once. */
const seconds = Number(Deno.env.get("HARK_LEDGER_SECONDS") ?? 0);
/** Only in a long run: it takes longer than the stream remembers ids, and that is 10 s at least. */
const long: readonly Fault[] = seconds > 0 ? ["long outage"] : [];

function judge(result: Result): void {
  if (seconds > 0) console.log(JSON.stringify(result));
  const { lost, doubled, disordered, committed, stored } = result;
  assert.deepEqual({ lost, doubled, disordered }, { lost: 0, doubled: 0, disordered: 0 });
  assert.equal(stored, committed);
}

Deno.test({
  name:
    "through kills of relay, NATS and PostgreSQL, and cut lines, the stream has what was committed",
  ignore: natsServer === undefined,
  async fn() {
    const faults: Fault[] = ["relay", "nats", "postgres", "silence", "severed", "frozen", ...long];
    judge(await relayLedger(faults, seconds, console.log));
  },
});

Deno.test({
  name:
    "through kills of inbox, NATS and PostgreSQL, and cut lines, the log has what the stream has",
  ignore: natsServer === undefined,
  async fn() {
    const faults: Fault[] = ["relay", "nats", "postgres", "silence", "severed", ...long];
    judge(await inboxLedger(faults, seconds, console.log));
  },
});
