import assert from "node:assert/strict";
import { connect } from "../../mod.ts";
import { patient, test, type TestContext, until } from "../harness/mod.ts";
import { publish, Running } from "../faults/_support/running.ts";
import { startWorker } from "./_support/fleet.ts";
import { Tap } from "./_support/tap.ts";

/** Long enough that a worker which is only slow keeps its partition. */
const lease = Math.max(2000, patient(1000));

/** How long a handler goes on after its word. By then the test has frozen the worker. */
const pace = patient(1000);

/** How long a zombie may hold its successor up, beyond its lease; the last second is the machine's. */
const grace = 3000 + 1000;

/** Who wrote what into Hark's tables: the sessions of the one to be frozen are named "zombie". */
const auditSql = `
create table public.audit (number bigint generated always as identity, session text, tab text, held_by uuid,
  moved boolean);
create function public.audit() returns trigger language plpgsql as $$
begin
  insert into public.audit (session, tab, held_by, moved)
  values (current_setting('application_name'), tg_table_name,
    case when tg_table_name = 'partitions' then (to_jsonb(old) ->> 'owner')::uuid end,
    case when tg_table_name = 'partitions'
      then (to_jsonb(old) -> 'seen', to_jsonb(old) -> 'last_id', to_jsonb(old) -> 'handled')
        is distinct from (to_jsonb(new) -> 'seen', to_jsonb(new) -> 'last_id', to_jsonb(new) -> 'handled') end);
  return null;
end
$$;
create trigger audit after update on hark.partitions for each row execute function public.audit();
create trigger audit after insert or update or delete on hark.waiting for each row execute function public.audit();
create trigger audit after insert or update or delete on hark.dead for each row execute function public.audit();
create trigger audit after insert or update or delete on hark.done for each row execute function public.audit();
create table public.results (id bigint, worker text);
create table public.accounts (id integer primary key, balance integer);
insert into public.accounts values (1, 0);`;

/** Waits until the position is past a number of notifications. */
async function stored(context: TestContext, count: number): Promise<void> {
  await until(async () => {
    const [row] = await context.sql("select sum(handled)::int as handled from hark.partitions");
    return row.handled >= count;
  }, { what: `${count} to be stored` });
}

/** The worker that serves the consumer. */
async function owner(context: TestContext): Promise<string> {
  return (await context.sql("select owner from hark.partitions"))[0].owner;
}

for (const outcome of ["linger", "fail"] as const) {
  const ends = outcome === "linger" ? "succeeds" : "fails";
  test(`a worker frozen past its lease stores nothing of a handler that ${ends} once it goes on`, async (context) => {
    await context.sql(auditSql);
    await using zombie = startWorker(context.url, "zombie", {
      options: { lease, acknowledgeInterval: 0 },
      say: true,
      trap: { payload: 4, do: outcome, pace },
    });
    await publish(context, 1, 3);
    await zombie.line(/^handled 3 /);
    await stored(context, 3);
    const before = await owner(context);
    await publish(context, 4, 4);
    await zombie.line(/^at 4 /);
    zombie.kill("SIGSTOP");
    const db = context.use(await connect(context.url));
    const successor = context.use(new Running(db, { lease, acknowledgeInterval: 0 }));
    await publish(context, 5, 8);
    await successor.atLeast(5, { deadline: 15_000 });
    await stored(context, 8);
    const [{ mark }] = await context.sql("select max(number) as mark from public.audit");
    const after = await owner(context);
    assert.notEqual(after, before);

    zombie.kill("SIGCONT");
    await zombie.line(/^past 4 /);
    await until(async () => {
      const rows = await context.sql(
        "select from hark.crew where owner = $1 and lease_until > clock_timestamp()",
        [before],
      );
      return rows.length === 1;
    }, { what: "the zombie to live again" });
    await publish(context, 9, 20);
    await stored(context, 20);
    assert.deepEqual(successor.payloads.slice(0, 5), [4, 5, 6, 7, 8]);
    // It may have become the owner again since, in order: what counts is under whose ownership it wrote.
    const written = await context.sql(
      `select * from public.audit where number > $1 and session = 'zombie'
        and (tab <> 'partitions' or (moved and held_by = $2))`,
      [mark, after],
    );
    assert.deepEqual(written, [], "the zombie has written nothing");
    const [{ handled }] = await context.sql(
      "select sum(handled)::int as handled from hark.partitions",
    );
    assert.equal(handled, 20, "each was counted once");
  });
}

test("a worker frozen past its lease writes nothing through its transaction once it goes on", async (context) => {
  await context.sql(auditSql);
  await using zombie = startWorker(context.url, "zombie", {
    options: { lease, transactional: true },
    trap: {
      payload: 4,
      do: "linger",
      pace,
      sql: "insert into results values (4, 'zombie')",
    },
  });
  await publish(context, 1, 3);
  await stored(context, 3);
  await publish(context, 4, 4);
  await zombie.line(/^at 4 /);
  zombie.kill("SIGSTOP");
  const db = context.use(await connect(context.url));
  const successor = context.use(
    new Running(db, {
      lease,
      transactional: true,
      handle: (n, { tx }) => tx.query("insert into results values ($1, 'successor')", [n.payload]),
    }),
  );
  await publish(context, 5, 8);
  await successor.atLeast(5, { deadline: 15_000 });
  zombie.kill("SIGCONT");
  await zombie.line(/^past 4 /);
  await publish(context, 9, 12);
  await stored(context, 12);
  const results = await context.sql("select id::int, worker from results where id < 9 order by id");
  assert.deepEqual(results, [4, 5, 6, 7, 8].map((id) => ({ id, worker: "successor" })));
});

/** Freezes a worker whose handler has updated a row that its successor wants; gives how long that took. */
async function heldUp(context: TestContext, atCommit: boolean): Promise<number> {
  await context.sql(auditSql);
  const update = "update accounts set balance = balance + 1 where id = 1";
  const tap = context.use(new Tap(Number(new URL(context.url).port || 5432)));
  await using zombie = startWorker(tap.through(context.url), "zombie", {
    options: { lease, transactional: true },
    trap: { payload: 2, do: atCommit ? "linger" : "hang", sql: update },
  });
  await publish(context, 1, 1);
  await stored(context, 1);
  const db = context.use(await connect(context.url));
  context.use(
    new Running(db, {
      lease,
      transactional: true,
      handle: async (n, { tx }) => {
        await tx.query(update);
        await tx.query("insert into results values ($1, 'successor')", [n.payload]);
      },
    }),
  );
  await until(async () =>
    (await context.sql("select count(*)::int as workers from hark.workers"))[0].workers === 2
  );
  if (atCommit) tap.arm(/commit/i);
  await publish(context, 2, 2);
  if (atCommit) await tap.reached();
  else await zombie.line(/^at 2 /);
  zombie.kill("SIGSTOP");
  const frozen = performance.now();
  await until(
    async () => (await context.sql("select from results where id = 2")).length === 1,
    { deadline: 30_000, what: "the successor to handle it" },
  );
  const took = performance.now() - frozen;
  tap.open();
  zombie.kill("SIGCONT");
  await publish(context, 3, 5);
  await stored(context, 5);
  const [row] = await context.sql(
    "select balance, (select count(*)::int from results) as results from accounts",
  );
  assert.equal(row.balance, row.results, "what the zombie had updated was undone");
  return took;
}

test("a worker frozen in its handler's transaction holds its successor up for its lease and 3 s at most", async (context) => {
  const took = await heldUp(context, false);
  assert(took < lease + patient(grace), `${took} ms`);
});

test("a worker frozen between its last statement and COMMIT holds its successor up no longer", async (context) => {
  const took = await heldUp(context, true);
  assert(took < lease + patient(grace), `${took} ms`);
});
