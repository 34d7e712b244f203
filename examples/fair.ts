/**
 * Tenants that share a worker: one publishes a burst, and the others do not wait for its end. The
 * requests to another service stay within its rate.
 *
 *     DATABASE_URL=postgres://… deno run -P=example examples/fair.ts
 */
import { connect, Consumer, migrate, notifyMany } from "@hark/postgres";

interface Mail {
  tenant: string;
  number: number;
}

await using db = await connect(Deno.env.get("DATABASE_URL"));
await migrate(db);

const mails = (tenant: string, count: number) =>
  Array.from({ length: count }, (_, number) => ({
    channel: "example-mails",
    key: `${tenant}:${number % 3}`, // the recipient: the mails of one come in order
    payload: { tenant, number },
  }));
await notifyMany(db, [...mails("big", 1000), ...mails("small", 3), ...mails("tiny", 2)]);

const finished = new Map<string, number>();
let sent = 0;
const consumer = new Consumer<Mail>(db, {
  id: "example-mailer",
  channels: "example-mails",
  concurrency: 4,
  limits: {
    by: ({ payload }) => payload.tenant,
    perKey: { concurrency: 2 }, // no tenant takes more than half of the worker
    rate: { count: 5000, per: "1s" }, // what the mail server allows
  },
  handle: async ({ payload }) => {
    await Promise.resolve(); // send it
    finished.set(payload.tenant, ++sent);
  },
});
console.log(await consumer.drain(), "sent");
for (const tenant of ["small", "tiny", "big"]) {
  console.log(`${tenant} was done ${finished.get(tenant)! < 20 ? "within the first 20" : "last"}`);
}
