/**
 * What commands print, made by running them: for the documentation, and for the test that compares.
 *
 * @module
 */

import { connect, Consumer, type Database, notify, notifyMany, watch } from "../../mod.ts";
import { hark, output, ran } from "../cli/_support/hark.ts";
import { until } from "../harness/until.ts";

/** Makes every screen, by name, in a fresh database with Hark installed. */
export async function screens(url: string): Promise<ReadonlyMap<string, string>> {
  const made = new Map<string, string>();
  const show = async (name: string, args: readonly string[], print = ran) => {
    const { stdout, stderr } = await print(args, { url });
    made.set(name, steady(`$ hark ${args.join(" ")}\n${stdout}${stderr}`));
  };
  await using db = await connect(url);

  await show("init", ["init"]);
  await show("notify", ["notify", "orders", '{"id":1}', "--key", "ada"]);
  made.set("notify", made.get("notify")!.replace('{"id":1}', `'{"id":1}'`));
  await notifyMany(
    db,
    [[2, "bob"], [3, "ada"], [4, "cy"]].map(([id, key]) => (
      { channel: "orders", payload: { id }, key: String(key) }
    )),
  );
  await show("tail", ["tail", "orders", "--from", "beginning", "--limit", "3"]);

  await db.query("create table users (id integer primary key, email text)");
  await db.query("create table invoices (id integer primary key, total numeric)");
  await watch(db, "public.users", { exclude: ["email"] });
  await watch(db, "public.invoices");
  await db.query("alter table invoices add column paid boolean");
  await show("watch list", ["watch", "list"]);

  await mailing(db);
  await using _billing = await billing(db);
  await show("status", ["status"]);
  await show("check", ["check", "--max-lag", "5m", "--max-dead", "0"]);
  await show("doctor", ["doctor"]);
  // Settings are the server's, not the page's.
  const doctor = made.get("doctor")!.replaceAll(/^warning \(settings\): .*\n.*\n/gm, "");
  made.set("doctor", doctor);
  await show("log list", ["log", "list", "orders", "--limit", "3"]);
  await show("log show", ["log", "show", "2"]);
  await show("consumers list", ["consumers", "list"]);
  await show("consumers show", ["consumers", "show", "billing"]);
  await show("dead list", ["dead", "list", "mail"]);
  await show("cleanup", ["cleanup", "--older-than", "30d"]);
  await show("cleanup kept", ["cleanup", "--older-than", "0d"]);
  made.set("listen", await listening(url));
  return made;
}

/** A consumer that has run once, gave one notification up, and left the last one unread. */
async function mailing(db: Database): Promise<void> {
  const mail = new Consumer<{ id: number }>(db, {
    id: "mail",
    channels: "orders",
    maxAttempts: 1,
    handle({ payload: { id } }) {
      if (id === 2) throw new Error("no such address");
    },
  });
  await mail.drain();
  await notify(db, "orders", { id: 5 }, { key: "cy" });
}

/** A consumer that runs, has read everything, and fails on one notification that another waits behind. */
async function billing(db: Database): Promise<AsyncDisposable> {
  const consumer = new Consumer<{ id: number }>(db, {
    id: "billing",
    channels: "orders",
    partitions: 2,
    retry: { initial: 600_000 },
    handle({ payload: { id } }) {
      if (id === 1) throw new Error("the card was declined");
    },
  });
  const running = consumer.run();
  const stored = async () => {
    const { rows: [row] } = await db.query(
      "select unread, waiting, handled from hark.status() where consumer = 'billing'",
    );
    return row !== undefined && `${row.unread} ${row.waiting} ${row.handled}` === "0 2 3";
  };
  await Promise.race([running, until(stored, { what: "billing to have read everything" })]);
  return {
    async [Symbol.asyncDispose]() {
      await consumer.stop();
      await running;
    },
  };
}

async function listening(url: string): Promise<string> {
  const module = "examples/consumers/orders.ts";
  const args = ["listen", module, "--consumers", "orders-printer"];
  await using child = hark(args, { url });
  await child.line(/^replay #5/);
  await output(["notify", "orders", '{"id":6}'], { url });
  await child.line(/^live #6/);
  child.kill("SIGTERM");
  const { stdout, stderr } = await child.ended();
  // The program writes them to two places: shown as a terminal would, what it says of itself around.
  const said = stderr.trimEnd().split("\n").filter((line) => !/ info /.test(line));
  const lines = [...said.slice(0, -1), ...stdout.trimEnd().split("\n"), ...said.slice(-1)];
  return steady(`$ hark ${args.join(" ")}\n${lines.join("\n")}`);
}

/** The same text for every run: times, sizes and the numbers of workers are others each time. */
export function steady(text: string): string {
  const same = text.trimEnd()
    .replaceAll(/\d{4}-\d\d-\d\d([T ])\d\d:\d\d:\d\d(\.\d{3})?/g, "2026-11-21$110:00:00")
    .replaceAll(/\b\d+(\.\d+)? (ms|s|min|h)\b/g, "2 s")
    .replaceAll(/\bnow$/gm, "2 s ago")
    // Of tables and segments. What one notification takes is the same each time.
    .replaceAll(/\b\d+(\.\d+)? (kB|MB)(?=\b)/g, "96.0 kB")
    // Host and process of a worker, which is no time of day.
    .replaceAll(/(?<![\d:])\b[\w.-]+:\d{2,7}(?= |$)/gm, "web-3:4711");
  return aligned(same.split("\n")).join("\n");
}

/** Pads the cells of tables anew, whose widths have changed. Numbers stand right-aligned. */
function aligned(lines: readonly string[]): string[] {
  const cells = lines.map((line) => line.trim().split(/ {2,}/));
  const result: string[] = [];
  for (let i = 0; i < lines.length;) {
    const count = cells[i]!.length;
    let end = i + 1;
    while (count > 1 && end < lines.length && cells[end]!.length === count) end++;
    const rows = cells.slice(i, end);
    const columns = rows[0]!.map((_, n) => rows.map((row) => row[n]!));
    const widths = columns.map((column) => Math.max(...column.map((cell) => cell.length)));
    const isNumber = columns.map((column) =>
      column.length > 1 && column.slice(1).every((cell) => /^([\d,.]+|-)$/.test(cell))
    );
    for (const [at, row] of rows.entries()) {
      const padded = row.map((cell, n) =>
        isNumber[n] ? cell.padStart(widths[n]!) : cell.padEnd(widths[n]!)
      );
      // A line that is no part of a table keeps its own indentation.
      result.push(count === 1 ? lines[i + at]!.trimEnd() : padded.join("  ").trimEnd());
    }
    i = end;
  }
  return result;
}
