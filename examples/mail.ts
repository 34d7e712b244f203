/**
 * Sends mail when a status changes, and only then. An outbox file stands in for the mail server.
 * Each mail has a Message-ID made of the notification's id, so that a mail that was sent twice can
 * be recognised.
 *
 *     DATABASE_URL=postgres://… deno run -P=example --allow-write=outbox.txt examples/mail.ts
 */
import { connect, Consumer, migrate, watch, watched } from "@hark/postgres";

interface Parcel {
  id: number;
  email: string;
  status: string;
}

await using db = await connect(Deno.env.get("DATABASE_URL"));
await migrate(db);
await db.query("drop table if exists example_parcels");
await db.query(
  "create table example_parcels (id int primary key, email text, status text, weight int)",
);

const parcels = watched<Parcel, "id">("public.example_parcels");
await watch(db, parcels, {
  operations: ["update"],
  include: ["id", "email", "status"],
  // For a condition on columns alone, `ifChanged: ["status"]` does the same.
  when: "new.status is distinct from old.status and new.email is not null",
});

await db.query(
  `insert into example_parcels values (1, 'ada@example.com', 'packed', 900),
    (2, 'bob@example.com', 'packed', 500), (3, null, 'packed', 100)`,
);
await db.query("update example_parcels set weight = 550 where id = 2"); // no mail
await db.query("update example_parcels set status = 'sent'"); // no mail to 3, which has no address
await db.query("update example_parcels set status = 'sent' where id = 2"); // no mail: same status
await db.query("update example_parcels set status = 'delivered' where id = 1");

const outbox = Deno.args[0] ?? "outbox.txt";

const consumer = new Consumer(db, {
  id: "example-mail",
  channels: parcels.channel,
  handle: parcels.handler(async (change, { signal }) => {
    if (!change.isUpdate()) return;
    const { id, email, status } = change.new;
    const mail = [
      `Message-ID: <parcel-${change.notification.id}@shop.example>`,
      `To: ${email}`,
      `Subject: Parcel ${id} is ${status}`,
      "",
      `It was ${change.old.status} before.\n\n`,
    ].join("\n");
    await Deno.writeTextFile(outbox, mail, { append: true, signal });
    console.log(`to ${email}: parcel ${id} is ${status}`);
  }),
});
console.log(await consumer.drain(), "mails");
