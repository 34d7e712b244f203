/**
 * A search index that follows a table: first the existing rows, then the changes. An index in
 * memory stands in for a search server.
 *
 *     DATABASE_URL=postgres://… deno run -P=example examples/search.ts
 */
import { connect, Consumer, migrate, watch, watched } from "@hark/postgres";

interface Article {
  id: number;
  title: string;
  body: string;
}

const index = new Map<number, { title: string; words: Set<string> }>();

function upsert({ id, title, body }: Article): void {
  index.set(id, { title, words: new Set(`${title} ${body}`.toLowerCase().match(/\w+/g)) });
}

function search(word: string): void {
  const found = [...index.values()].filter(({ words }) => words.has(word)).map((one) => one.title);
  console.log(`${word}:`, found.sort().join(", ") || "nothing");
}

await using db = await connect(Deno.env.get("DATABASE_URL"));
await migrate(db);
await db.query("drop table if exists example_articles");
await db.query(
  "create table example_articles (id int primary key, title text, body text, views int default 0)",
);
await db.query(
  `insert into example_articles values (1, 'Owls', 'They hunt at night.'),
    (2, 'Bats', 'They hunt at night, too.'), (3, 'Larks', 'They sing in the morning.')`,
);

const articles = watched<Article, "id">("public.example_articles", { payload: "new" });
const { snapshot } = await watch(db, articles, {
  include: ["id", "title", "body"],
  ifChanged: true, // no notification for each view
  snapshot: { again: true }, // this index starts empty; for a persistent index: true
});
console.log(snapshot?.published, "rows existed before");

const consumer = new Consumer(db, {
  id: "example-search",
  channels: articles.channel,
  // Inserting a row twice, or deleting a row that is not there, does no harm.
  handle: articles.handler((change) => {
    if (change.isTruncate()) index.clear();
    else if (change.isDelete()) index.delete(change.id);
    else upsert(change.new);
  }),
});
console.log(await consumer.drain(), "handled");
search("night");

await db.query("update example_articles set views = views + 1");
await db.query("update example_articles set body = 'They hunt at dusk.' where id = 2");
await db.query("delete from example_articles where id = 3");
await db.query("insert into example_articles values (4, 'Moths', 'They fly at night.')");
console.log(await consumer.drain(), "handled");
search("night");
search("morning");
