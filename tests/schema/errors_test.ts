import assert from "node:assert/strict";
import {
  cancelDelayed,
  cleanup,
  connect,
  Consumer,
  consumers,
  deadLetters,
  installedVersion,
  migrate,
  notify,
  notifyMany,
  type Queryable,
  seek,
  setContext,
  status,
  subscribe,
  uninstall,
  unwatch,
  watch,
} from "../../mod.ts";
import { sqlState } from "../../src/database/driver_error.ts";
import { isPassing, translate } from "../../src/database/translate.ts";
import { published } from "../../src/publish/error.ts";
import { HarkError } from "../../src/errors.ts";
import { test } from "../harness/mod.ts";

test("an error of the user's own SQL is not taken for one of Hark's or of the connection", async (context) => {
  const db = context.use(await connect(context.url));
  await db.query("create table accounts (password text not null)");
  const statements = [
    "insert into accounts values (null)",
    "select password from pg_catalog.pg_class",
    "do $$ begin raise exception 'the password is too short'; end $$",
    "do $$ begin raise exception 'Connection terminated, says the user'; end $$",
    "select * from nowhere.at_all",
    "select 'x'::integer",
  ];
  for (const statement of statements) {
    await assert.rejects(db.query(statement), (error: unknown) => {
      assert(error instanceof HarkError);
      assert.equal(error.code, "DATABASE", statement);
      assert.equal(error.remedy?.includes("hark"), undefined, statement);
      assert.equal(isPassing(error), false, statement);
      return true;
    });
  }
});

test("the remedy for a right that is missing names every grant that gives the function", async ({ sql }) => {
  const [{ names, tables }] = await sql(`select
    (select jsonb_agg(distinct p.proname) from pg_proc p where p.pronamespace = 'hark'::regnamespace) as names,
    (select jsonb_agg(c.relname) from pg_class c
      where c.relnamespace = 'hark'::regnamespace and c.relkind = any ('{r, p}') and c.relname !~ '^log_')
      as tables`);
  const remedyOf = (what: string, name: string) => {
    const error = new Error(`permission denied for ${what} ${name}`);
    return translate(Object.assign(error, { code: "42501" })).remedy ?? "";
  };
  for (const kind of ["publish", "read", "consume", "operate", "observe"]) {
    const [{ given }] = await sql("select hark.functions_for($1) as given", [kind]);
    const told = names.filter((name: string) =>
      remedyOf("function", name).includes(`hark.grant_${kind}(`)
    );
    assert.deepEqual(told.sort(), given.sort(), kind);
  }
  for (const name of [...tables, "log_overflow"]) {
    assert.match(remedyOf("table", name), /Only the owner of the schema/, name);
  }
});

/** What drivers and wrappers make of a server's error: the same error, kept in their own places. */
const wrapped: Readonly<Record<string, (server: ServerFields) => unknown>> = {
  "pg and PGlite": (server) => Object.assign(new Error(server.message), server),
  "postgres.js": ({ constraint, ...server }) =>
    Object.assign(new Error(server.message), server, { constraint_name: constraint }),
  // PostgresError of @db/postgres, whose `fields` is what the server sent.
  "@db/postgres": (server) =>
    Object.assign(new Error(server.message), { name: "PostgresError", fields: server }),
  "Bun.sql": ({ code, ...server }) =>
    Object.assign(new Error(server.message), server, {
      code: "ERR_POSTGRES_SERVER_ERROR",
      errno: code,
    }),
  "an error with a cause": (server) =>
    new Error("publishing failed", { cause: Object.assign(new Error(server.message), server) }),
  "causes three deep": (server) =>
    new Error("c", {
      cause: new Error("b", { cause: new Error("a", { cause: { ...server } }) }),
    }),
  "an AggregateError": (server) =>
    new AggregateError([
      new Error("the first host"),
      Object.assign(new Error(server.message), server),
    ], "all failed"),
  "Drizzle": (server) =>
    Object.assign(
      new Error("Failed query: select hark.notify($1)\nparams: password,SASL", {
        cause: Object.assign(new Error(server.message), server),
      }),
      { query: "select hark.notify($1)", params: ["password"] },
    ),
  "TypeORM": (server) =>
    Object.assign(new Error("QueryFailedError: failed"), { driverError: { ...server } }),
  "Sequelize": (server) =>
    Object.assign(new Error("failed"), { original: { ...server }, parent: { ...server } }),
  "Objection": (server) => Object.assign(new Error("failed"), { nativeError: { ...server } }),
  "Prisma": ({ code, message, hint, constraint }) =>
    Object.assign(new Error("Raw query failed"), {
      code: "P2010",
      meta: { code, message, hint, constraint },
    }),
  "Prisma with a driver adapter": ({ code, message, hint, constraint }) =>
    Object.assign(new Error("Raw query failed"), {
      code: "P2010",
      meta: {
        driverAdapterError: {
          cause: { originalCode: code, originalMessage: message, hint, constraint },
        },
      },
    }),
};

interface ServerFields {
  readonly severity: string;
  readonly code: string;
  readonly message: string;
  readonly hint?: string;
  readonly constraint?: string;
}

for (const [driver, wrap] of Object.entries(wrapped)) {
  Deno.test(`what the server says is found in an error of ${driver}`, async () => {
    const told = (code: string, message: string, more: Partial<ServerFields> = {}) =>
      translate(wrap({ severity: "ERROR", code, message, ...more }));
    const missing = told("42P01", 'relation "hark.log" does not exist');
    assert.deepEqual([missing.code, missing.message.includes("hark.log")], ["NO_SCHEMA", true]);
    assert.equal(told("42501", "permission denied for function notify").code, "NO_PERMISSION");
    const own = told("HK006", "batch is 0", { hint: "Give at least 1." });
    assert.deepEqual([own.code, own.message], ["BAD_OPTION", "batch is 0. Give at least 1."]);
    const constraint = "channel_is_1_to_200_characters";
    assert.equal(told("HK006", "the channel is null", { constraint }).code, "BAD_CHANNEL");
    const unique = told("23505", "duplicate key value violates unique constraint");
    assert.deepEqual([unique.code, unique.sqlState, unique.message, isPassing(unique)], [
      "DATABASE",
      "23505",
      "duplicate key value violates unique constraint",
      false,
    ]);
    assert.equal(isPassing(told("40001", "could not serialize access")), true);
    assert.equal(told("57P01", "terminating connection").code, "UNREACHABLE");
    await assert.rejects(
      published(() => Promise.reject(wrap({ severity: "ERROR", code: "22P05", message: "no" }))),
      { code: "BAD_PAYLOAD" },
    );
  });
}

Deno.test("a connection that fails is seen in the error of a wrapper, and its statement is not told", () => {
  const refused = Object.assign(new Error("connect ECONNREFUSED 127.0.0.1:1"), {
    code: "ECONNREFUSED",
  });
  const statement = "Failed query: select $1\nparams: password,secret";
  for (
    const error of [
      refused,
      new Error(statement, { cause: refused }),
      new Error(statement, { cause: new AggregateError([refused, refused]) }),
      new Error(statement, { cause: new Error("Connection terminated unexpectedly") }),
      Object.assign(new Error("write EPIPE"), { code: "EPIPE", errno: -32, syscall: "write" }),
    ]
  ) {
    const told = translate(error);
    assert.deepEqual([told.code, isPassing(told)], ["UNREACHABLE", true], String(error));
    assert.doesNotMatch(told.message, /secret/);
    assert.equal(told.cause, error);
  }
  const other = translate(new Error(statement, { cause: new Error("something else") }));
  assert.deepEqual([other.code, other.message], ["DATABASE", "something else"]);
});

Deno.test("a driver's own words count before those of the error that it wraps", () => {
  const ended = new Error("Connection terminated unexpectedly");
  const late = new Error("Connection terminated due to connection timeout", { cause: ended });
  for (const error of [late, new Error("publishing failed", { cause: late })]) {
    assert.equal(translate(error).code, "TIMEOUT");
  }
});

Deno.test("codes that look like an SQLSTATE are none, and errors that hold themselves have an end", () => {
  const own = new Error("mine");
  own.cause = own;
  for (const error of [own, { code: "P2002" }, { code: "EPERM" }, { code: "ABORT" }, null, "x"]) {
    assert.equal(sqlState(error), undefined);
    assert.equal(translate(error).code, "DATABASE");
  }
  const hostile = new Proxy(new Error("no"), {
    get(target, name) {
      if (name === "cause" || name === "code") throw new Error("a getter that throws");
      return Reflect.get(target, name);
    },
  });
  assert.equal(translate(hostile).code, "DATABASE");
});

Deno.test("a query function that resolves to another shape is told which one is wanted", async () => {
  const shapes: [unknown, RegExp][] = [
    [[{ id: 1 }], /db\.query resolved to an array\. It must resolve to \{ rows \}/],
    [[], /resolved to an array/],
    [undefined, /resolved to undefined/],
    [null, /resolved to null/],
    [1, /resolved to 1/],
    [{ rowCount: 1 }, /an object without rows, but with rowCount/],
    [{ rows: { id: 1 } }, /rows that are no array/],
    [{ rows: [] }, /no rows, for a statement that returns one/],
    [{ rows: [[1]] }, /rows of which the first is an array/],
    [{ rows: [1] }, /rows of which the first is 1/],
  ];
  const calls: ((db: Queryable) => Promise<unknown>)[] = [
    (db) => notify(db, "c"),
    (db) => notifyMany(db, [{ channel: "c" }]),
    (db) => notifyMany(db, [{ channel: "c", delay: 5 }]),
    (db) => cancelDelayed(db, 1),
    (db) => setContext(db, {}),
    (db) => migrate(db),
    (db) => installedVersion(db),
    (db) => status(db),
    (db) => consumers(db),
    (db) => seek(db, "c", "now"),
    (db) => deadLetters(db),
    (db) => cleanup(db, { olderThan: 1 }),
    (db) => watch(db, "t"),
    (db) => unwatch(db, "t"),
    (db) => new Consumer(db, { id: "c", channels: "c", handle() {} }).drain(),
    async (db) => {
      for await (const _ of subscribe(db, "c", { signal: AbortSignal.timeout(2000) })) break;
    },
  ];
  for (const [result, message] of shapes) {
    const db = { query: () => Promise.resolve(result) } as unknown as Queryable;
    for (const call of calls) {
      await assert.rejects(call(db), { code: "BAD_OPTION", message }, `${call}`);
    }
  }
  const silent = { query: () => Promise.resolve(undefined) } as unknown as Queryable;
  await assert.rejects(uninstall(silent), { code: "BAD_OPTION" });
});
