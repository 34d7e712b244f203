/**
 * A search_path full of traps.
 *
 * @module
 */

import type { Client } from "../../harness/mod.ts";

/** Of a table that the role owns, in a schema that it may create functions in. */
export const watching = [
  "select hark.set_context('{\"a\": 1}', true)",
  "select hark.watch('traps.mine', 'c'); select hark.rewatch('traps.mine')",
  "select hark.watch_sql('traps.mine', 'c', key => '{id}', if_changed => '{*}')",
  "select hark.watch('traps.mine', 'c', condition => 'old.id > 0 or new.id > 0', headers => '{\"b\": 2}')",
  "select hark.watch('traps.mine', 'c', 'second', payload => 'diff', level => 'row', max_bytes => 1000)",
  "select * from hark.watches()",
  "insert into traps.mine values (1, 'one', '{}', 'x')",
  "update traps.mine set name = 'two'",
  "select hark.watch('traps.mine', 'c', 'second', payload => 'key', snapshot => true)",
  "alter table traps.mine add column more json",
  "update traps.mine set id = 3",
  "select * from hark.snapshot('traps.mine', 'second', 10)",
  "select hark.restart_snapshot('traps.mine', 'second')",
  "select * from hark.snapshot('traps.mine', 'second', 10)",
  "delete from traps.mine",
  "truncate traps.mine",
  "select hark.unwatch('traps.mine', 'second')",
  "select hark.unwatch('traps.mine')",
  "select hark.watch('traps.gone')",
  "drop table traps.gone",
  "select hark.forget_watch('traps.gone')",
  `create trigger tell after insert or update or delete on traps.mine
   for each row execute function hark.notify_data_change('c')`,
  "insert into traps.mine values (1, 'one', '{}', 'x')",
  "update traps.mine set id = 2",
  "update traps.mine set name = 'two'",
  "delete from traps.mine",
  "drop trigger tell on traps.mine",
];
/** The tables of {@linkcode watching}. */
export const tablesToWatch =
  `create table traps.mine (id int4 primary key, name pg_catalog.varchar, more_json pg_catalog.json,
    one "char");
  create table traps.gone (id int4);`;

const operators = [
  "=",
  "<>",
  "<",
  "<=",
  ">",
  ">=",
  "||",
  "+",
  "-",
  "->",
  "->>",
  "~~",
  "*",
  "/",
  "@>",
];
const types = [
  "text",
  "bigint",
  "integer",
  "boolean",
  "xid8",
  "xid",
  "uuid",
  "name",
  "oid",
  "jsonb",
  "json",
  "timestamptz",
  "interval",
  "double precision",
  "numeric",
  "pg_snapshot",
  "text[]",
  "bigint[]",
  "xid8[]",
];
const functions = [
  "pg_notify(text, text) returns void",
  "pg_current_xact_id() returns xid8",
  "pg_current_xact_id_if_assigned() returns xid8",
  "pg_current_snapshot() returns pg_snapshot",
  "pg_visible_in_snapshot(xid8, pg_snapshot) returns boolean",
  "pg_snapshot_xmax(pg_snapshot) returns xid8",
  "pg_snapshot_xip(pg_snapshot) returns setof xid8",
  "pg_notification_queue_usage() returns double precision",
  "pg_is_in_recovery() returns boolean",
  "pg_try_advisory_xact_lock(bigint) returns boolean",
  "current_setting(text) returns text",
  "current_setting(text, boolean) returns text",
  "clock_timestamp() returns timestamptz",
  "now() returns timestamptz",
  "hashtext(text) returns integer",
  "pg_sequence_last_value(regclass) returns bigint",
  "currval(regclass) returns bigint",
  "starts_with(text, text) returns boolean",
  "gen_random_uuid() returns uuid",
  "upper(text) returns text",
  "left(text, integer) returns text",
  "octet_length(text) returns integer",
  "char_length(text) returns integer",
  "jsonb_typeof(jsonb) returns text",
  "json_to_recordset(json) returns setof record",
  "unnest(bigint[]) returns setof bigint",
  "unnest(text[]) returns setof text",
  "unnest(anyarray) returns setof anyelement",
  "make_interval(integer, integer, integer, integer, integer, integer, double precision) returns interval",
  "pg_column_size(jsonb) returns integer",
  "pg_column_compression(jsonb) returns text",
  "set_config(text, text, boolean) returns text",
  "current_database() returns name",
];

/** A schema in front of pg_catalog where everything raises the alarm if it runs as anybody else. */
export async function traps(client: Client, caller: string): Promise<void> {
  const sprung = `begin
    if current_user <> '${caller}' then raise exception 'a trap ran as %', current_user; end if;
    return null;
  end`;
  // The bodies themselves are not to fall into the traps.
  const settings = "language plpgsql set search_path = pg_catalog";
  await client.query(
    "create table traps.log (id integer); create table traps.consumers (id integer);",
  );
  await client.query(
    "create table traps.partitions (id integer); create table traps.install (id integer);",
  );
  await client.query(
    "create table traps.published (id integer); create table traps.pg_roles (id integer);",
  );
  for (const name of functions) {
    const body = name.includes("setof") ? sprung.replace("return null;", "return;") : sprung;
    const plain = name.endsWith("returns void") ? sprung.replace("return null;", "return;") : body;
    await client.query(`create function traps.${name} ${settings} as $trap$ ${plain} $trap$`);
  }
  for (const [n, operator] of operators.entries()) {
    const result = ["||", "+", "-", "*", "/", "->", "->>"].includes(operator) ? "same" : "boolean";
    for (const [m, type] of types.entries()) {
      const returns = result === "same" ? type : result;
      await client.query(
        `create function traps.o_${n}_${m}(${type}, ${type}) returns ${returns} ${settings}
           as $trap$ ${sprung} $trap$;
         create operator traps.${operator} (
           leftarg = ${type}, rightarg = ${type}, function = traps.o_${n}_${m})`,
      );
    }
  }
  for (
    const type of ["text", "jsonb", "int8", "xid8", "bool", "timestamptz", "pg_snapshot", "uuid"]
  ) {
    await client.query(`create domain traps.${type} as pg_catalog.int4 check (value = 42)`);
  }
  await client.query("set search_path = traps, pg_catalog, public");
}
