/**
 * Keeps sums up to date from changes, each counted exactly once. With `transactional`, the
 * handler's writes commit together with the fact that the change is handled. Here the handler fails
 * once after it has written.
 *
 *     DATABASE_URL=postgres://… deno run -P=example examples/analytics.ts
 */
import { connect, Consumer, migrate, watch, watched } from "@hark/postgres";

interface Sale {
  id: number;
  country: string;
  euros: number;
}

await using db = await connect(Deno.env.get("DATABASE_URL"));
await migrate(db);
await db.query("drop table if exists example_sales, example_revenue");
await db.query("create table example_sales (id int primary key, country text, euros int)");
await db.query("create table example_revenue (country text primary key, sales int, euros int)");

const sales = watched<Sale, "id">("public.example_sales");
await watch(db, sales);
await db.query("insert into example_sales values (1, 'fr', 10), (2, 'de', 20), (3, 'fr', 30)");
await db.query("update example_sales set country = 'de', euros = 15 where id = 3");
await db.query("update example_sales set euros = euros * 2");
await db.query("delete from example_sales where id = 2");

let fails = true;

const consumer = new Consumer(db, {
  id: "example-analytics",
  channels: sales.channel,
  transactional: true,
  onFailure: "block", // strict order: a change after a TRUNCATE must not be added before it
  retry: { initial: 50 },
  handle: sales.handler(async (change, { tx }) => {
    if (change.isTruncate()) return void await tx.query("truncate example_revenue");
    const add = (row: Sale, sign: 1 | -1) =>
      tx.query(
        `insert into example_revenue as r values ($1, $2, $3) on conflict (country)
          do update set sales = r.sales + excluded.sales, euros = r.euros + excluded.euros`,
        [row.country, sign, sign * row.euros],
      );
    if (change.old !== undefined) await add(change.old, -1);
    if (change.new !== undefined) await add(change.new, 1);
    if (change.isDelete() && fails) {
      fails = false;
      throw new Error("the light went out");
    }
  }),
  onError: (error) => console.log("rolled back:", (error as Error).message),
});
console.log(await consumer.drain(), "changes counted");

const kept = await db.query("select * from example_revenue where sales > 0 order by country");
for (const { country, sales, euros } of kept.rows) console.log(country, sales, euros);

const { rows: [{ differ }] } = await db.query(
  `select count(*)::int as differ from example_revenue r full join
    (select country, count(*) as sales, sum(euros) as euros from example_sales group by country) s
    using (country)
  where (coalesce(r.sales, 0), coalesce(r.euros, 0)) <> (coalesce(s.sales, 0), coalesce(s.euros, 0))`,
);
console.log(differ, "countries differ from the table");
