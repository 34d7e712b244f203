/**
 * Turns a notification into a change.
 *
 * @module
 */

import type { Notification } from "../consume/notification.ts";
import { DeadLetter } from "../consume/retry.ts";
import type { Change, ChangeFacts, OversizedChange, WatchPayload } from "./change.ts";
import type { StandardSchema } from "../standard_schema.ts";
import { fitted } from "./schema.ts";

/** The table and the payload that a change is expected to have. */
export interface Expected {
  /** The table's schema; undefined if the caller did not give one. */
  readonly schema: string | undefined;
  /** The table's name. */
  readonly table: string;
  /** The table as the caller named it, for messages. */
  readonly name: string;
  /** What the watch publishes for a row. */
  readonly payload: WatchPayload;
  /** The schema that rows must match, if any. */
  readonly row: StandardSchema | undefined;
}

/** A change as it is stored in a payload, not yet checked. */
type Raw = Readonly<Record<string, unknown>>;

// deno-lint-ignore no-explicit-any -- the caller names the type of the rows
type AnyChange = Change<any, any, any, any>;

/** Whether a notification is a change of the expected table. */
export function isOf(expected: Expected, notification: Notification): boolean {
  const { schema } = (notification.payload ?? {}) as Raw;
  return notification.isDatabaseChange && notification.table === expected.table &&
    (expected.schema === undefined || schema === expected.schema);
}

/**
 * Turns a notification into a change. Returns a promise only if a schema validates asynchronously.
 * @throws {DeadLetter}
 */
export function readChange(
  expected: Expected,
  notification: Notification,
): AnyChange | OversizedChange | Promise<AnyChange> {
  // The id comes last: dead letters are grouped by how their errors begin, up to a digit.
  const what = `(notification ${notification.id})`;
  if (!isOf(expected, notification)) {
    throw new DeadLetter(
      notification.isDatabaseChange
        ? `this is a change of ${notification.table}, not of ${expected.name}. ` +
          `If tables share a channel, call matches() first ${what}`
        : `this is not a change of ${expected.name}: no watch published it ${what}`,
    );
  }
  const raw = notification.payload as Raw;
  if (raw.metadata === null || typeof raw.metadata !== "object") {
    throw new DeadLetter(`the change has no metadata: no watch published it ${what}`);
  }
  const facts = {
    schema: raw.schema as string,
    table: raw.table as string,
    partition: typeof raw.partition === "string" ? raw.partition : undefined,
    metadata: raw.metadata as ChangeFacts["metadata"],
    context: notification.headers,
    notification,
    action: notification.action!,
    id: raw.id ?? null,
    moved: raw.moved === true,
  };
  if (raw.truncated === true && facts.action !== "TRUNCATE") {
    return {
      ...facts,
      action: facts.action,
      old: undefined,
      new: undefined,
      truncated: true,
    };
  }
  return withRows(expected, facts, raw, what);
}

/** The fields of a change without its rows. */
type Facts = ChangeFacts & Pick<AnyChange, "action" | "id" | "moved">;

function withRows(
  expected: Expected,
  facts: Facts,
  raw: Raw,
  what: string,
): AnyChange | Promise<AnyChange> {
  const { payload } = expected;
  const whole = payload === "full" || payload === "diff";
  const isUpdate = facts.action === "UPDATE";
  const hasOld = whole && (isUpdate || facts.action === "DELETE");
  const hasNew = payload !== "key" && facts.action !== "DELETE" && facts.action !== "TRUNCATE";
  const changed = isUpdate && whole ? raw.changed : undefined;
  if (isUpdate && whole && !Array.isArray(changed)) throw other(expected, "changed columns", what);
  // With the payload "diff", an update has only parts of its rows, which cannot match a schema.
  const schema = isUpdate && payload === "diff" ? undefined : expected.row;
  const row = (name: "old" | "new", has: boolean): unknown => {
    if (!has) return undefined;
    const value = raw[name];
    if (value === null || typeof value !== "object") throw other(expected, `${name} row`, what);
    return schema === undefined
      ? value
      : fitted(schema, value, `the ${name} row of ${expected.name}`, what);
  };
  const rows = [row("old", hasOld), row("new", hasNew)] as const;
  const made = ([before, after]: readonly [unknown, unknown]) =>
    new TableChange(facts, before, after, changed as string[] | undefined) as unknown as AnyChange;
  return rows.some((one) => one instanceof Promise) ? Promise.all(rows).then(made) : made(rows);
}

function other({ payload, name }: Expected, missing: string, what: string): DeadLetter {
  return new DeadLetter(
    `the change has no ${missing}: the watch of ${name} has another payload than "${payload}", which ` +
      `is the payload given to watched() ${what}`,
  );
}

/** A change at run time. The types of its fields come from {@linkcode Change}. */
class TableChange {
  readonly schema: string;
  readonly table: string;
  readonly partition: string | undefined;
  readonly action: string;
  readonly id: unknown;
  readonly old: unknown;
  readonly new: unknown;
  readonly changed: readonly string[] | undefined;
  readonly moved: boolean;
  readonly truncated = false;
  readonly metadata: ChangeFacts["metadata"];
  readonly context: ChangeFacts["context"];
  readonly notification: Notification;

  constructor(
    facts: Facts,
    before: unknown,
    after: unknown,
    changed: readonly string[] | undefined,
  ) {
    this.schema = facts.schema;
    this.table = facts.table;
    this.partition = facts.partition;
    this.action = facts.action;
    this.id = facts.id;
    this.old = before;
    this.new = after;
    this.changed = changed;
    this.moved = facts.moved;
    this.metadata = facts.metadata;
    this.context = facts.context;
    this.notification = facts.notification;
  }

  isInsert(): boolean {
    return this.action === "INSERT";
  }

  isUpdate(): boolean {
    return this.action === "UPDATE";
  }

  isDelete(): boolean {
    return this.action === "DELETE";
  }

  isTruncate(): boolean {
    return this.action === "TRUNCATE";
  }

  isSnapshot(): boolean {
    return this.action === "SNAPSHOT";
  }
}
