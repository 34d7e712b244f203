/** Transactional handlers that do something else for a while, and connections that are lost about their commit. */

import assert from "node:assert/strict";
import pg from "npm:pg@8.23.1";
import { connect, deadLetters, type Queryable } from "../../mod.ts";
import { publish, Running } from "../faults/_support/running.ts";
import { patient, test, type TestContext, until } from "../harness/mod.ts";

/** The server ends a transaction in which a worker says nothing for so long. */
const lease = patient(1000);

const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function results({ sql }: TestContext): Promise<number[]> {
  return (await sql("select id::int from results order by id")).map(({ id }) => id);
}

test("a transactional handler may be busy elsewhere for longer than a lease", async (context) => {
  await context.sql("create table results (id bigint)");
  const db = context.use(await connect(context.url));
  let calls = 0;
  const running = context.use(
    new Running(db, {
      transactional: true,
      lease,
      handle: async ({ id }, { tx }) => {
        calls++;
        await tx.query("insert into results values ($1)", [id]);
        await wait(1.5 * lease);
      },
    }),
  );
  await publish(context, 1, 1);
  await until(async () => (await results(context)).length > 0);
  await running.stop();
  assert.deepEqual([await results(context), calls], [[1], 1]);
});

test("a transaction that the server ends in the middle counts as a failed attempt, and says why", async (context) => {
  await context.sql("create table results (id bigint)");
  const db = context.use(await connect(context.url));
  let calls = 0;
  context.use(
    new Running(db, {
      transactional: true,
      maxAttempts: 2,
      retry: { initial: 1 },
      handle: async ({ id }, { tx }) => {
        calls++;
        const { rows: [{ pid }] } = await tx.query(
          "insert into results values ($1) returning pg_backend_pid() as pid",
          [id],
        );
        await context.sql("select pg_terminate_backend($1, 10000)", [pid]);
      },
    }),
  );
  await publish(context, 1, 1);
  const [letter] = (await until(async () => {
    const letters = await deadLetters(db);
    return letters.length > 0 ? letters : undefined;
  }))!;
  assert.match(letter!.error!, /terminating connection/);
  assert.deepEqual([await results(context), calls], [[], 2]);
});

test("a driver that loses the answer to a commit does not run the handler twice", async (context) => {
  await context.sql("create table results (id bigint)");
  let isDown = false;
  let lost = 0;
  const reset = () => Object.assign(new Error("read ECONNRESET"), { code: "ECONNRESET" });
  const pool = new pg.Pool({ connectionString: context.url });
  pool.on("error", () => {});
  const db = {
    query(text: string, values?: unknown[]) {
      if (!isDown) return pool.query(text, values);
      lost++;
      return Promise.reject(reset());
    },
    async transaction<T>(work: (tx: Queryable) => Promise<T>): Promise<T> {
      const client = await pool.connect();
      try {
        await client.query("begin");
        const result = await work(client);
        await client.query("commit");
        if (lost === 0) {
          isDown = true;
          await until(() => lost > 0, { what: "the worker to lose its connection first" });
          isDown = false;
          throw reset();
        }
        return result;
      } finally {
        client.release(true);
      }
    },
  };
  const running = context.use(
    new Running(db, {
      transactional: true,
      handle: ({ id }, { tx }) => tx.query("insert into results values ($1)", [id]),
    }),
  );
  await publish(context, 1, 3);
  await until(async () => (await results(context)).includes(3));
  await running.stop();
  await pool.end();
  assert.deepEqual(await results(context), [1, 2, 3]);
});
