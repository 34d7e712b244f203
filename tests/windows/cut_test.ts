/** Cutting a mark: one snapshot, one end, and the transactions in which neither would be right. */

import assert from "node:assert/strict";
import type { Client } from "../harness/mod.ts";
import { UnregisteredReader } from "./_support/reader.ts";
import { pause, type Staging, stagings } from "./_support/staging.ts";
import { assertExactlyOnce } from "./_support/truth.ts";

/** Moves a position past a number of windows opened on `client`; gives the error's code if it is refused. */
async function windowsIn(client: Client, reader: UnregisteredReader, count: number) {
  const inside = new UnregisteredReader(client, reader.channels);
  inside.position = reader.position;
  try {
    for (let n = 0; n < count; n++) reader.delivered.push(...await inside.window());
    reader.position = inside.position;
    return undefined;
  } catch (error) {
    return (error as { code: string }).code;
  }
}

const inATransactionThatWrote: Staging = {
  promise:
    "a window is refused in a transaction that has written, whose own rows would count as read",
  breaks: [{
    rule: "when it may be opened there",
    in: "hark.require_fresh_snapshot",
    from: "if pg_current_xact_id_if_assigned() is not null then",
    to: "if false then",
  }],
  stage: async (lab) => {
    const reader = await UnregisteredReader.open(await lab.client(), ["c"]);
    const other = await lab.writer();
    const writer = await lab.writer();
    await writer.number();
    await other.rollback();
    const code = await windowsIn(writer.client, reader, 1);
    // Refused, the transaction is over; let in, its rows come after the snapshot that counts them.
    if (code !== undefined) await writer.rollback();
    else {
      await writer.notify();
      await writer.commit();
    }
    await reader.drain();
    await assertExactlyOnce(reader.client, reader.delivered);
    assert.equal(code, "HK001");
  },
};

const withAnOldSnapshot: Staging = {
  promise: "a window is refused in a transaction whose snapshot is not of now",
  breaks: [{
    rule: "when it may be opened there",
    in: "hark.require_fresh_snapshot",
    from: "if not starts_with(current_setting('transaction_isolation'), 'read ') then",
    to: "if false then",
    also: {
      in: "hark.page",
      from: "if not starts_with(current_setting('transaction_isolation'), 'read ') then",
      to: "if false then",
    },
  }],
  stage: async (lab) => {
    for (const level of ["repeatable read", "serializable"]) {
      const reader = await UnregisteredReader.open(await lab.client(), ["c"]);
      const client = await lab.client();
      await client.query(`begin isolation level ${level}; select count(*) from hark.log;`);
      await lab.publish(1);
      const code = await windowsIn(client, reader, 2);
      await client.query("rollback");
      await reader.drain();
      await assertExactlyOnce(reader.client, reader.delivered);
      assert.equal(code, "HK002");
    }
  },
};

const startRefused: Staging = {
  promise: "a start now and a registration are refused there too",
  stage: async (lab) => {
    const client = await lab.client();
    for (
      const call of [
        "hark.start_position('now', null, null)",
        "hark.register('r', '{c}', 'now')",
        "hark.cut()",
      ]
    ) {
      await client.query("begin; select hark.notify('c');");
      await assert.rejects(client.query(`select ${call}`), { code: "HK001" });
      await client.query("rollback; begin isolation level repeatable read");
      await assert.rejects(client.query(`select ${call}`), { code: "HK002" });
      await client.query("rollback");
    }
  },
};

const oneStatement: Staging = {
  promise: "what is published and committed while a mark is cut is before it or behind it",
  breaks: [{
    rule: "when its end is read before its snapshot is taken",
    in: "hark.new_mark",
    from: "  loop\n",
    to: `  loop
    asked_running := coalesce(pg_sequence_last_value('hark.log_id_seq'), 0);
    ${pause}\n`,
    also: {
      from:
        "m.max_id := greatest(last.max_id, coalesce(pg_sequence_last_value('hark.log_id_seq'), hark.last_drawn_id()));",
      to: "m.max_id := greatest(last.max_id, asked_running);",
    },
  }],
  stage: async (lab) => {
    const reader = await UnregisteredReader.open(await lab.client(), ["c"]);
    await lab.held(lab.gate, () => reader.window(), () => lab.publish(1));
    await reader.drain();
    await assertExactlyOnce(reader.client, reader.delivered);
  },
};

const openedAndReadAtOnce: Staging = {
  promise: "what commits between the start of a statement and the window it opens is read",
  breaks: [{
    rule: "when the page is read with the statement's own snapshot",
    in: "hark.page",
    from: " LANGUAGE plpgsql\n",
    to: " LANGUAGE plpgsql STABLE\n",
  }],
  stage: async (lab) => {
    const reader = await UnregisteredReader.open(await lab.client(), ["c"]);
    const read = async () => {
      const { rows } = await reader.client.query(
        `select r.ids, hark.content_of(w.mark) as mark
         from (select pg_advisory_xact_lock_shared(77)::text as x offset 0) g,
           lateral (select hark.cut() as mark where g.x = '' offset 0) w,
           lateral hark.page($1::hark.marks, w.mark, null, 0, null, 10, 1000, 1000, null) r`,
        [reader.position.seen],
      );
      reader.position = { ...reader.position, seen: rows[0].mark };
      return rows[0].ids?.split(",").length ?? 0;
    };
    const count = await lab.held(lab.gate, read, () => lab.publish(1));
    assert.equal(count + (await reader.drain()).length, 1);
  },
};

const withoutALook: Staging = {
  promise: "a cut does not look at the log, however much lies uncommitted at its head",
  breaks: [{
    rule: "when its end is the greatest id in the log",
    in: "hark.new_mark",
    from: "coalesce(pg_sequence_last_value('hark.log_id_seq'), hark.last_drawn_id())",
    to: "(select max(l.id) from hark.log l)",
  }],
  stage: async (lab) => {
    const reader = await UnregisteredReader.open(await lab.client(), ["c"]);
    const writer = await lab.writer();
    await writer.client.query("select hark.notify('c') from generate_series(1, 2000)");
    const scans = async () => {
      const { rows: [row] } = await reader.client.query(
        `select sum(coalesce(seq_scan, 0) + coalesce(idx_scan, 0)) as scans
         from pg_stat_xact_user_tables where schemaname = 'hark' and relname ~ '^log'`,
      );
      return Number(row.scans);
    };
    await reader.client.query("begin");
    const before = await scans();
    await reader.client.query("select hark.cut()");
    const after = await scans();
    await reader.client.query("rollback");
    assert.equal(after, before);
  },
};

stagings("a mark is cut where its snapshot can be trusted", [
  inATransactionThatWrote,
  withAnOldSnapshot,
  startRefused,
  oneStatement,
  openedAndReadAtOnce,
  withoutALook,
]);
