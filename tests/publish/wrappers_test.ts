/** The lines of docs/guide/drivers.md, with each driver: published with the user's data or not at all. */

import assert from "node:assert/strict";
import { sql as drizzleSql } from "npm:drizzle-orm@0.44.7";
import { drizzle as drizzlePg, type NodePgDatabase } from "npm:drizzle-orm@0.44.7/node-postgres";
import {
  drizzle as drizzlePostgres,
  type PostgresJsDatabase,
} from "npm:drizzle-orm@0.44.7/postgres-js";
import knex, { type Knex } from "npm:knex@3.3.0";
import { CompiledQuery, Kysely, PostgresDialect, type Transaction } from "npm:kysely@0.28.19";
// @ts-types="npm:@types/pg@8.23.1"
import pg from "pg";
import { PGlite, type Transaction as PGliteTransaction } from "npm:@electric-sql/pglite@0.5.16";
import postgres from "npm:postgres@3.4.9";
import { migrate, notify, type Queryable, seek, status } from "../../mod.ts";
import { test, type TestContext } from "../harness/mod.ts";
import { both } from "./_support/any_driver.ts";

/** A driver: how it is opened, what its transaction is for Hark, and how its own SQL is run. */
interface Driver extends AsyncDisposable {
  /** Runs `work` in a transaction of the driver. */
  transaction(
    work: (hark: Queryable, run: (sql: string) => Promise<unknown>) => Promise<void>,
  ): Promise<void>;
}

const ofKysely = <T>(tx: Transaction<T>): Queryable => ({
  query: (text, values = []) => tx.executeQuery(CompiledQuery.raw(text, values)),
});

const ofKnex = (tx: Knex.Transaction): Queryable => ({
  query(text, values = []) {
    const bindings: Knex.Value[] = [];
    const raw = text.replaceAll(/\$(\d+)/g, (_, n) => {
      bindings.push(values[n - 1] as Knex.Value);
      return "?";
    });
    return tx.raw(raw, bindings);
  },
});

const parts = (text: string, values: unknown[]) =>
  drizzleSql.join(
    text.split(/\$(\d+)/).map((part, i) =>
      i % 2 === 0 ? drizzleSql.raw(part) : drizzleSql`${values[Number(part) - 1]}`
    ),
  );

const ofDrizzlePg = (tx: Pick<NodePgDatabase, "execute">): Queryable => ({
  query: (text, values = []) => tx.execute(parts(text, values)),
});

const ofDrizzlePostgres = (tx: Pick<PostgresJsDatabase, "execute">): Queryable => ({
  query: async (text, values = []) => ({ rows: await tx.execute(parts(text, values)) }),
});

const ofPostgres = (tx: postgres.TransactionSql): Queryable => ({
  query: async (text, values = []) => ({ rows: await tx.unsafe(text, values as never[]) }),
});

const drivers: Record<string, (context: TestContext) => Driver> = {
  "pg"({ url }) {
    const pool = new pg.Pool({ connectionString: url, max: 1 });
    return {
      async transaction(work) {
        const client = await pool.connect();
        try {
          await client.query("begin");
          await work(client, (sql) => client.query(sql));
          await client.query("commit");
        } catch (error) {
          await client.query("rollback");
          throw error;
        } finally {
          client.release();
        }
      },
      [Symbol.asyncDispose]: () => pool.end(),
    };
  },
  "postgres.js"({ url, appName }) {
    const sql = postgres(url, { max: 1, connection: { application_name: appName } });
    return {
      async transaction(work) {
        await sql.begin((tx) => work(ofPostgres(tx), (text) => tx.unsafe(text)));
      },
      [Symbol.asyncDispose]: () => sql.end(),
    };
  },
  "Kysely"({ url }) {
    const pool = new pg.Pool({ connectionString: url, max: 1 });
    const db = new Kysely<unknown>({ dialect: new PostgresDialect({ pool }) });
    return {
      transaction: (work) =>
        db.transaction().execute((tx) =>
          work(ofKysely(tx), (sql) => tx.executeQuery(CompiledQuery.raw(sql)))
        ),
      [Symbol.asyncDispose]: () => db.destroy(),
    };
  },
  "Knex"({ url }) {
    const db = knex({ client: "pg", connection: url, pool: { min: 0, max: 1 } });
    return {
      transaction: (work) => db.transaction((tx) => work(ofKnex(tx), (sql) => tx.raw(sql))),
      [Symbol.asyncDispose]: () => db.destroy(),
    };
  },
  "Drizzle on pg"({ url }) {
    const pool = new pg.Pool({ connectionString: url, max: 1 });
    const db = drizzlePg({ client: pool });
    return {
      transaction: (work) =>
        db.transaction((tx) => work(ofDrizzlePg(tx), (sql) => tx.execute(sql))),
      [Symbol.asyncDispose]: () => pool.end(),
    };
  },
  "Drizzle on postgres.js"({ url, appName }) {
    const client = postgres(url, { max: 1, connection: { application_name: appName } });
    const db = drizzlePostgres({ client });
    return {
      transaction: (work) =>
        db.transaction((tx) => work(ofDrizzlePostgres(tx), (sql) => tx.execute(sql))),
      [Symbol.asyncDispose]: () => client.end(),
    };
  },
};

for (const [name, open] of Object.entries(drivers)) {
  test(`${name}: a notification commits with the user's rows, and is rolled back with them`, async (context) => {
    const { sql } = context;
    await sql("create table orders (id integer primary key)");
    await using driver = open(context);
    const odd = { text: "'\"\\ ? $1 {}", list: [1, [2]], none: null };
    await driver.transaction(async (hark, run) => {
      await run("insert into orders values (1)");
      await both(hark, 1);
      await notify(hark, "c", odd, { key: "it's ? $1", headers: { a: [1] } });
      await notify(hark, "c", "late", { delay: 60_000, dedupe: "k" });
    });
    await assert.rejects(
      driver.transaction(async (hark) => {
        await both(hark, 100);
        throw new Error("changed my mind");
      }),
      { message: "changed my mind" },
    );
    // The user's own error stays the driver's.
    await assert.rejects(
      driver.transaction(async (hark, run) => {
        await both(hark, 200);
        await run("insert into orders values (1)");
      }),
      (error: Error) => {
        assert.notEqual(error.name, "HarkError");
        assert.match(
          `${error.message} ${(error.cause as Error | undefined)?.message}`,
          /orders_pkey/,
        );
        return true;
      },
    );
    const log = await sql("select payload, key, headers from hark.log order by id");
    assert.deepEqual(log.map(({ payload }) => payload), [1, 2, 3, odd]);
    assert.deepEqual([log[3].key, log[3].headers], ["it's ? $1", { a: [1] }]);
    assert.equal((await sql("select * from hark.delayed")).length, 1);
  });

  test(`${name}: Hark's errors have their codes, and the server's their message`, async (context) => {
    const { sql, database } = context;
    await using driver = open(context);
    const fails = (
      call: (hark: Queryable) => Promise<unknown>,
      expected: object,
      first = "select 1",
    ) =>
      driver.transaction(async (hark, run) => {
        await run(first);
        await assert.rejects(call(hark), { name: "HarkError", ...expected });
        throw new Error("done");
      }).catch((error: Error) => assert.equal(error.message, "done", String(error)));
    await fails((hark) => seek(hark, "nobody", "now"), {
      code: "NO_CONSUMER",
      message: /no consumer "nobody"/,
    });
    const role = `${database}_weak`;
    await sql(`create role ${role}`);
    try {
      await fails((hark) => notify(hark, "c"), {
        code: "NO_PERMISSION",
        message:
          /^permission denied for schema hark\. As the schema's owner: select hark\.grant_publish/,
      }, `set local role ${role}`);
    } finally {
      await sql(`drop role ${role}`);
    }
    await fails(async (hark) => {
      await hark.query("select 1 / $1::text::integer", ["0"]).catch(() => {});
      await notify(hark, "c");
    }, { code: "DATABASE", message: /^current transaction is aborted/ });
    await fails((hark) => status(hark), {
      code: "NO_SCHEMA",
      message: /Run `hark init`/,
    }, "alter schema hark rename to gone");
    assert.deepEqual(await sql("select * from hark.log"), []);
  });
}

Deno.test("PGlite: a transaction as it is, and errors with their codes", async () => {
  await using db = await PGlite.create();
  await migrate(db);
  await db.query("create table orders (id integer primary key)");
  await db.transaction(async (tx: PGliteTransaction) => {
    await tx.query("insert into orders values (1)");
    await both(tx, 1);
  });
  await assert.rejects(
    db.transaction(async (tx) => {
      await both(tx, 100);
      await tx.query("insert into orders values (1)");
    }),
    /orders_pkey/,
  );
  const { rows } = await db.query("select payload from hark.log order by id");
  assert.deepEqual(rows, [{ payload: 1 }, { payload: 2 }, { payload: 3 }]);
  await assert.rejects(seek(db, "nobody", "now"), { code: "NO_CONSUMER" });
});

/** What `@db/postgres` and TypeORM have, of which no copy is here: the shape they document. */
test("@db/postgres and TypeORM, by the form of result and error that they document", async (context) => {
  const client = await context.client();
  const denoPostgres = {
    async queryObject(text: string, args?: unknown[]): Promise<{ rows: unknown[] }> {
      try {
        return { rows: (await client.query(text, args)).rows };
      } catch (error) {
        const { severity, code, message, hint, constraint } = error as pg.DatabaseError;
        throw Object.assign(new Error(message), {
          name: "PostgresError",
          fields: { severity, code, message, hint, constraint },
        });
      }
    },
  };
  const typeOrm = {
    // deno-lint-ignore no-explicit-any -- as TypeORM declares it
    async query(text: string, parameters?: any[]): Promise<any> {
      try {
        return (await client.query(text, parameters)).rows;
      } catch (error) {
        throw Object.assign(new Error("QueryFailedError"), {
          query: text,
          parameters,
          driverError: error,
        });
      }
    },
  };
  const wrapped: Queryable[] = [
    { query: (text, values) => denoPostgres.queryObject(text, values) },
    { query: async (text, values) => ({ rows: await typeOrm.query(text, values) }) },
  ];
  for (const db of wrapped) {
    await both(db, 1);
    await assert.rejects(seek(db, "nobody", "now"), { code: "NO_CONSUMER" });
    await assert.rejects(db.query("select * from hark.nothing"));
  }
  await assert.rejects(notify(typeOrm, "c"), {
    code: "BAD_OPTION",
    message: /db\.query resolved to an array/,
  });
});

Deno.test("a driver that is not wrapped is named, with what wraps it", async () => {
  const url = "postgres://nobody@127.0.0.1:1/none";
  await using sql = Object.assign(postgres(url), {
    async [Symbol.asyncDispose]() {
      await sql.end();
    },
  });
  const pool = new pg.Pool({ connectionString: url });
  const kysely = new Kysely<object>({ dialect: new PostgresDialect({ pool }) });
  const cases: [db: unknown, message: RegExp][] = [
    [sql, /^db is of postgres\.js.*sql\.unsafe\(text, values\).*docs\/guide\/drivers\.md/],
    [kysely, /^db is of Kysely.*CompiledQuery\.raw.*docs\/guide\/drivers\.md/],
    [knex({ client: "pg" }), /^db is of Knex.*docs\/guide\/drivers\.md/],
    [drizzlePg({ client: pool }), /^db is of Drizzle.*docs\/guide\/drivers\.md/],
    [{ queryObject() {} }, /^db is of @db\/postgres.*queryObject\(text, values\)/],
  ];
  for (const [db, message] of cases) {
    await assert.rejects(notify(db as Queryable, "c", 1), { code: "BAD_OPTION", message });
  }
  await pool.end();
});
