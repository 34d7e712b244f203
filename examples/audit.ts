/**
 * An audit trail: which user or program changed which row. A request sets its user with
 * `setContext`. For other changes the database still knows the role and the application.
 *
 *     DATABASE_URL=postgres://… deno run -P=example examples/audit.ts
 */
import { connect, Consumer, migrate, setContext, watch, watched } from "@hark/postgres";

interface Account {
  id: number;
  email: string;
  plan: string;
}

await using db = await connect(Deno.env.get("DATABASE_URL"));
await migrate(db);
await db.query("drop table if exists example_accounts, example_audit");
await db.query(
  "create table example_accounts (id int primary key, email text, plan text, password text)",
);
await db.query(
  `create table example_audit (change bigint primary key, at timestamptz, actor text, transaction text,
    action text, account int, old jsonb, new jsonb)`,
);

// For an update only the changed columns are published, and passwords never.
const accounts = watched<Account, "id">("public.example_accounts", { payload: "diff" });
await watch(db, accounts, { exclude: ["password"], ifChanged: true });

// This program sets the user it works for.
await db.transaction(async (tx) => {
  await setContext(tx, { actor: "ada", request: "b2c4" });
  await tx.query("insert into example_accounts values (1, 'bob@example.com', 'free', 'secret')");
  await tx.query("update example_accounts set plan = 'paid' where id = 1");
  // Not published: the watch excludes this column.
  await tx.query("update example_accounts set password = 'new secret' where id = 1");
});
// This program does not.
await db.transaction(async (tx) => {
  await tx.query("set local application_name = 'nightly job'");
  await tx.query("delete from example_accounts");
});

const consumer = new Consumer(db, {
  id: "example-audit",
  channels: accounts.channel,
  transactional: true,
  async handle(notification, { tx }) {
    const change = await accounts.change(notification);
    const { context, metadata } = change;
    const json = (row: unknown) => row === undefined ? null : JSON.stringify(row);
    await tx.query("insert into example_audit values ($1, $2, $3, $4, $5, $6, $7, $8)", [
      notification.id,
      notification.createdAt,
      context.actor ?? `${metadata.application} (${metadata.role})`,
      metadata.transaction,
      change.action,
      change.id,
      json(change.old),
      json(change.new),
    ]);
  },
});
console.log(await consumer.drain(), "changes");

const { rows } = await db.query("select * from example_audit order by change");
for (const { actor, action, account, old, new: now } of rows) {
  console.log(`${actor}: ${action} ${account}`, JSON.stringify(old), JSON.stringify(now));
}
