/** A publisher takes its transaction number before it draws an id: reading rests on it. */

import assert from "node:assert/strict";
import { type Client, until } from "../harness/mod.ts";
import { RegisteredReader } from "./_support/reader.ts";
import { type Break, type Lab, pause, type Staging, stagings } from "./_support/staging.ts";
import { assertExactlyOnce } from "./_support/truth.ts";

/** Keeps anybody from drawing an id. */
async function holdSequence(lab: Lab, sequence: string): Promise<Client> {
  const client = await lab.client();
  await client.query(`begin; alter sequence ${sequence} restart;`);
  return client;
}

/** Stops a publisher where it draws its id, and gives whether it has a number by then. */
async function numberedWhenItDraws(lab: Lab, call: string, sequence = "hark.log_id_seq") {
  const holder = await holdSequence(lab, sequence);
  const publisher = await lab.client();
  const { rows: [{ pid }] } = await publisher.query("select pg_backend_pid() as pid");
  const publishing = publisher.query(call);
  const state = () =>
    lab.sql(
      `select backend_xid is not null as numbered from pg_stat_activity
       where pid = $1 and exists (select from pg_locks where pid = $1 and not granted)`,
      [pid],
    );
  const row = await until(async () => (await state())[0], {
    what: "the publisher to wait for the sequence",
  });
  await holder.query("rollback");
  await publishing;
  return row.numbered as boolean;
}

const early = (name: string, first: string): Break => ({
  rule: "when the id is drawn first",
  in: name,
  from: first,
  to: `perform pg_catalog.nextval('hark.log_id_seq'); ${first}`,
});
const one = early("hark.notify", "insert into hark.log (");
const many = early("hark.notify_many", "writer := pg_catalog.pg_current_xact_id();");

const calls: Staging[] = [
  { call: "select hark.notify('c', '1')", breaks: [one] },
  { call: "select hark.smart_notify('c', '1')", breaks: [one] },
  { call: `select hark.notify_many('[{"channel": "c"}]')`, breaks: [many] },
].map(({ call, breaks }) => ({
  promise: `${call} takes its number before its id`,
  breaks,
  stage: async (lab) => assert.ok(await numberedWhenItDraws(lab, call)),
}));

const insert: Staging = {
  promise: "so does a plain insert by the log's owner",
  breaks: [{ rule: "in a table whose first column is the id", flag: "id first" }],
  stage: async (lab) => {
    await lab.sql(
      `create table id_first (id bigint generated always as identity,
         xid xid8 default pg_current_xact_id(), channel text, payload jsonb)`,
    );
    const table = lab.broken("id first") ? "id_first" : "hark.log";
    const call = `insert into ${table} (channel, payload) values ('c', '1')`;
    const sequence = lab.broken("id first") ? "id_first_id_seq" : "hark.log_id_seq";
    assert.ok(await numberedWhenItDraws(lab, call, sequence));
  },
};

const slow: Staging = {
  promise: "a publisher that is slow between the two loses nothing",
  breaks: [{
    rule: "when the id is drawn first",
    in: "hark.notify",
    from: `insert into hark.log (xid, channel, key, payload, headers, created_at)
  values (`,
    to: `perform set_config('test.id', pg_catalog.nextval('hark.log_id_seq')::text, true);
    if $1 = 'slow' then ${pause} end if;
    insert into hark.log (id, xid, channel, key, payload, headers, created_at)
    overriding system value values (current_setting('test.id')::bigint, `,
  }],
  stage: async (lab) => {
    const reader = await RegisteredReader.open(await lab.client(), "r", ["c", "slow"]);
    await lab.publish(1); // every 32nd id writes to the WAL, and takes a number for that
    await lab.held(lab.gate, () => lab.sql("select hark.notify('slow')"), async () => {
      for (let n = 0; n < 3; n++) {
        await lab.publish(1);
        await reader.window();
      }
    });
    await reader.drain();
    await assertExactlyOnce(reader.client, reader.delivered);
  },
};

stagings("publishing takes the number first", [...calls, insert, slow]);
