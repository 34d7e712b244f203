/**
 * Every driver and query builder of docs/guide/drivers.md, as programs use it: how it is opened, its
 * transaction, and the line that makes it a Queryable. Each is imported when it is opened.
 *
 * @module
 */

import type { Transaction } from "npm:kysely@0.28.19";
import type { Knex } from "npm:knex@3.3.0";
import type postgres from "npm:postgres@3.4.9";
import type { Queryable } from "../../../mod.ts";
import type { Statement } from "../../../src/publish/mod.ts";
import type { TestContext } from "../../harness/mod.ts";
import { neonEndpoint } from "./neon_endpoint.ts";

/** What runs a statement of the user's own, in the same transaction. */
export type Run = (text: string) => Promise<unknown>;

/** An open driver. */
export interface Driver extends AsyncDisposable {
  /** Runs each statement by itself. */
  readonly db: Queryable;
  /** Runs `work` in a transaction of the driver. Undefined if a transaction is a list of statements. */
  readonly transaction?: (work: (hark: Queryable, run: Run) => Promise<void>) => Promise<unknown>;
  /** Runs a list of statements as a transaction. */
  readonly list?: (statements: readonly Statement[]) => Promise<unknown>;
}

const ofKysely = <T>(
  tx: Pick<Transaction<T>, "executeQuery">,
  { raw }: typeof import("npm:kysely@0.28.19").CompiledQuery,
): Queryable => ({ query: (text, values = []) => tx.executeQuery(raw(text, values)) });

const ofKnex = (tx: Knex): Queryable => ({
  query(text, values = []) {
    const bindings: Knex.Value[] = [];
    const raw = text.replaceAll(/\$(\d+)/g, (_, n) => {
      bindings.push(values[n - 1] as Knex.Value);
      return "?";
    });
    return tx.raw(raw, bindings);
  },
});

type Sql = typeof import("npm:drizzle-orm@0.44.7").sql;

const parts = (sql: Sql, text: string, values: unknown[]) =>
  sql.join(
    text.split(/\$(\d+)/).map((part, i) =>
      i % 2 === 0 ? sql.raw(part) : sql`${values[Number(part) - 1]}`
    ),
  );

const ofPostgres = (tx: Pick<postgres.Sql, "unsafe">): Queryable => ({
  query: async (text, values = []) => ({ rows: await tx.unsafe(text, values as never[]) }),
});

const pgPool = async (url: string) => {
  // @ts-types="npm:@types/pg@8.23.1"
  const { default: pg } = await import("pg");
  const pool = new pg.Pool({ connectionString: url, max: 1 });
  pool.on("error", () => {}); // a test ends its session
  return pool;
};

const postgresJs = async ({ url, appName }: TestContext) => {
  const { default: postgres } = await import("npm:postgres@3.4.9");
  return postgres(url, { max: 1, connection: { application_name: appName }, onnotice() {} });
};

/** By name, the opening of each. */
export const drivers: Readonly<Record<string, (context: TestContext) => Promise<Driver>>> = {
  async "pg"({ url }) {
    const pool = await pgPool(url);
    return {
      db: pool,
      async transaction(work) {
        const client = await pool.connect();
        client.on("error", () => {});
        let broken: Error | undefined;
        try {
          await client.query("begin");
          await work(client, (text) => client.query(text));
          await client.query("commit");
        } catch (error) {
          await client.query("rollback").catch((error) => broken = error);
          throw error;
        } finally {
          client.release(broken);
        }
      },
      [Symbol.asyncDispose]: () => pool.end(),
    };
  },
  async "postgres.js"(context) {
    const sql = await postgresJs(context);
    return {
      db: ofPostgres(sql),
      transaction: (work) => sql.begin((tx) => work(ofPostgres(tx), (text) => tx.unsafe(text))),
      [Symbol.asyncDispose]: () => sql.end(),
    };
  },
  async "Kysely"({ url }) {
    const { CompiledQuery, Kysely, PostgresDialect } = await import("npm:kysely@0.28.19");
    const db = new Kysely<unknown>({ dialect: new PostgresDialect({ pool: await pgPool(url) }) });
    return {
      db: ofKysely(db, CompiledQuery),
      transaction: (work) =>
        db.transaction().execute((tx) =>
          work(ofKysely(tx, CompiledQuery), (text) => tx.executeQuery(CompiledQuery.raw(text)))
        ),
      [Symbol.asyncDispose]: () => db.destroy(),
    };
  },
  async "Knex"({ url }) {
    const { default: knex } = await import("npm:knex@3.3.0");
    const db = knex({ client: "pg", connection: url, pool: { min: 0, max: 1 } });
    return {
      db: ofKnex(db),
      transaction: (work) =>
        db.transaction((tx) =>
          work(ofKnex(tx), async (text) => {
            await tx.raw(text);
          })
        ),
      [Symbol.asyncDispose]: () => db.destroy(),
    };
  },
  async "Drizzle on pg"({ url }) {
    const { sql } = await import("npm:drizzle-orm@0.44.7");
    const { drizzle } = await import("npm:drizzle-orm@0.44.7/node-postgres");
    const pool = await pgPool(url);
    const db = drizzle({ client: pool });
    const of = (tx: Pick<typeof db, "execute">): Queryable => ({
      query: (text, values = []) => tx.execute(parts(sql, text, values)),
    });
    return {
      db: of(db),
      transaction: (work) => db.transaction((tx) => work(of(tx), (text) => tx.execute(text))),
      [Symbol.asyncDispose]: () => pool.end(),
    };
  },
  async "Drizzle on postgres.js"(context) {
    const { sql } = await import("npm:drizzle-orm@0.44.7");
    const { drizzle } = await import("npm:drizzle-orm@0.44.7/postgres-js");
    const client = await postgresJs(context);
    const db = drizzle({ client });
    const of = (tx: Pick<typeof db, "execute">): Queryable => ({
      query: async (text, values = []) => ({ rows: await tx.execute(parts(sql, text, values)) }),
    });
    return {
      db: of(db),
      transaction: (work) => db.transaction((tx) => work(of(tx), (text) => tx.execute(text))),
      [Symbol.asyncDispose]: () => client.end(),
    };
  },
  async "TypeORM"({ url, appName }) {
    const { DataSource } = await import("npm:typeorm@1.1.1");
    const source = await new DataSource({
      type: "postgres",
      url,
      applicationName: appName,
      poolSize: 1,
      poolErrorHandler() {},
    }).initialize();
    const of = (tx: { query(text: string, values?: unknown[]): Promise<unknown> }): Queryable => ({
      query: async (text, values) => ({ rows: await tx.query(text, values) as unknown[] }),
    });
    return {
      db: of(source),
      transaction: (work) => source.transaction((tx) => work(of(tx), (text) => tx.query(text))),
      [Symbol.asyncDispose]: () => source.destroy(),
    };
  },
  async "PGlite"() {
    const { PGlite } = await import("npm:@electric-sql/pglite@0.5.16");
    const db = await PGlite.create();
    return {
      db,
      transaction: (work) => db.transaction((tx) => work(tx, (text) => tx.query(text))),
      [Symbol.asyncDispose]: () => db.close(),
    };
  },
  async "Neon over HTTP"(context) {
    const { neon, neonConfig } = await import("npm:@neondatabase/serverless@1.2.0");
    const endpoint = neonEndpoint(context.url);
    neonConfig.fetchEndpoint = endpoint.url;
    // The driver wants a password in the URL, which the endpoint does not look at.
    const sql = neon("postgres://user:password@neon.invalid/database", { fullResults: true });
    return {
      db: sql,
      list: (statements) =>
        sql.transaction(statements.map(({ text, values }) => sql.query(text, values))),
      [Symbol.asyncDispose]: () => endpoint[Symbol.asyncDispose](),
    };
  },
};
