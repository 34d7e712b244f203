/**
 * A cache that drops a row when any program changes it. Each process has its own cache, which
 * starts empty. So it subscribes to the changes without registering a consumer.
 *
 *     DATABASE_URL=postgres://… deno run -P=example examples/cache.ts
 */
import { connect, migrate, subscribe, watch, watched } from "@hark/postgres";

interface Product {
  id: number;
  name: string;
  cents: number;
}

await using db = await connect(Deno.env.get("DATABASE_URL"));
await migrate(db);
await db.query("drop table if exists example_products");
await db.query("create table example_products (id int primary key, name text, cents int)");
await db.query("insert into example_products values (1, 'tea', 300), (2, 'milk', 120)");

// The key alone is enough to drop a row.
const products = watched<Product, "id">("public.example_products", { payload: "key" });
await watch(db, products);

// The changes since before the first read. Older ones may come first; they drop rows needlessly,
// which does no harm.
const { rows: [{ time }] } = await db.query("select now() as time");
const changes = subscribe(db, products.channel, { from: { time } });

// The cache holds promises and stores them before the read begins. So a change during a read drops
// that read too.
const cache = new Map<number, Promise<Product>>();

function product(id: number): Promise<Product> {
  let found = cache.get(id);
  if (found === undefined) {
    found = read(id);
    cache.set(id, found);
    found.catch(() => cache.delete(id));
  }
  return found;
}

async function read(id: number): Promise<Product> {
  console.log(`product ${id} is read`);
  return (await db.query("select * from example_products where id = $1", [id])).rows[0];
}

const show = async () => console.log((await product(1)).cents, (await product(2)).cents);
await show();
await show();
await db.query("update example_products set cents = 350 where id = 1");

for await (const notification of changes) {
  const change = await products.change(notification);
  if (change.action === "TRUNCATE") cache.clear();
  else cache.delete(change.id);
  console.log(`product ${change.id} is dropped from the cache`);
  await show();
  if ((await product(1)).cents === 350) break;
}
