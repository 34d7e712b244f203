/**
 * Notifications that cannot be read, among others that can.
 *
 * @module
 */

import assert from "node:assert/strict";
import { connect, deadLetters, type Notification, replay, retry, status } from "../../../mod.ts";
import { Running } from "../../faults/_support/running.ts";
import { patient, type TestContext, type TestOptions, until } from "../../harness/mod.ts";

/** Why one cannot be read, and how it is made. */
export interface Kind {
  readonly what: string;
  readonly options?: TestOptions;
  /** Publishes one notification that cannot be read. */
  readonly publish: string;
  /** Damages what is stored then. */
  readonly damage?: (context: TestContext) => Promise<void>;
  /** Whether its payload can be shown. @default {false} */
  readonly isShown?: boolean;
  readonly error: RegExp;
}

/** A statement that publishes on "c": values of SQL. */
export function notify(...values: string[]): string {
  return `select hark.notify('c', ${values.join(", ")})`;
}

/** Publishes 1, the one that cannot be read, whose id it gives, and 2. */
export async function stage(context: TestContext, { publish, damage }: Kind): Promise<number> {
  await context.sql(notify("'1'"));
  const [{ notify: id }] = await context.sql(publish);
  await context.sql(notify("'2'", "'k'"));
  await damage?.(context);
  return Number(id);
}

/** A test that it becomes a dead letter, and that all others are handled. */
export async function oneDeadLetter(context: TestContext, kind: Kind): Promise<void> {
  const id = await stage(context, kind);
  // What is large as text takes seconds to make, on a slow machine many.
  const times = { readerTimeout: patient(8000), queryTimeout: patient(30_000) };
  const db = context.use(await connect(context.url, times));
  const gone: number[] = [];
  const lost = (_: unknown, n: Notification) => void gone.push(n.id);
  {
    await using running = new Running(db, { onDeadLetter: lost });
    await until(() => running.inbox.items.length === 2);
    assert.deepEqual(running.payloads, [1, 2]);
    await until(() => gone.length === 1);
    await context.sql(notify("'3'", "'k'"));
    await until(() => running.payloads.includes(3));
  }
  assert.deepEqual(gone, [id]);
  const [letter, ...more] = await deadLetters(db, { consumer: "c" });
  assert.deepEqual([letter?.id, letter?.channel, more], [id, "c", []]);
  assert(kind.isShown || letter!.payload === null);
  assert.match(letter!.error!, kind.error);
  // What is retried or replayed is read from its copy, or once more: with the same result.
  assert.equal(await retry(db, "c", { all: true }), 1);
  await replay(db, "c", { from: 1 });
  await using running = new Running(db, { onDeadLetter: lost });
  await until(() => gone.length >= 2 && running.inbox.items.length >= 3);
  assert.deepEqual(running.payloads.toSorted(), [1, 2, 3]);
  await until(async () => (await deadLetters(db)).length === 1);
  const { consumers: [row] } = await status(db);
  assert.deepEqual([row!.unread, row!.dead], [0, 1]);
}
