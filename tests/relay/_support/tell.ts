/**
 * Where each side of a ledger is when something is missing.
 *
 * @module
 */

import type { Child, OwnServer } from "../../harness/mod.ts";
import type { OwnNats } from "../../harness/nats.ts";

/** What a ledger runs between. */
interface Sides {
  readonly server: OwnServer;
  readonly nats: OwnNats;
  readonly children: readonly Child[];
  /** What NATS knows of the stream. */
  readonly look: () => Promise<unknown>;
}

/** Says where each side is: for one who looks for the cause of what is `missing`. */
export async function tell(
  { server, nats, children, look }: Sides,
  missing: readonly number[],
  say: (line: string) => void,
): Promise<void> {
  say(`missing: ${missing.length} from ${missing[0]} to ${missing.at(-1)}`);
  for (
    const [what, sql] of Object.entries({
      now: "select clock_timestamp(), count(*), max(id) from hark.log",
      partitions:
        "select partition, owner, epoch, seen, target, last_id, handled, acknowledged_at, crashes, " +
        "suspect_id, last_error from hark.partitions order by 1",
      waiting: "select partition, state, count(*), min(id), max(id), max(attempts) as attempts, " +
        "min(due_at) as due, min(last_error) as error from hark.waiting group by 1, 2 order by 1, 2",
      dead: "select count(*), min(id), max(id) from hark.dead",
      inboxes: "select * from hark.inboxes",
      relays: "select * from hark.relays order by 1, 2",
      processes: "select * from hark.processes",
      workers: "select * from hark.workers",
      sessions: "select pid, application_name, state, wait_event, now() - state_change as for, " +
        "left(query, 80) as query from pg_stat_activity where datname is not null",
    })
  ) {
    const rows = await server.sql(sql).catch((error: unknown) => [String(error)]);
    say(`${what}: ${rows.map((row) => `\n  ${JSON.stringify(row)}`).join("")}`);
  }
  for (const child of children) {
    const state = await child.ended({ deadline: 1 }).then(
      ({ code, signal }) => `has ended with ${signal ?? code}`,
      () => "runs",
    );
    say(`process ${child.pid} ${state}; it wrote:\n${child.stdout}${child.stderr}`);
  }
  say(`stream: ${Deno.inspect(await look().catch(String), { depth: 9 })}`);
  say(`NATS:\n${await nats.log()}`);
}
