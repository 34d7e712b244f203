/**
 * Statements that write 1,000 rows to a table of ten columns with three indexes: without a trigger,
 * watched, and with triggers that store as much in a plain table. The figures are those of a statement.
 *
 * @module
 */

/** What is counted. */
export interface Variant {
  /** The variant to compare with, instead of the first. */
  readonly floor?: string;
  /** How many calls, if not as many as are asked for. */
  readonly calls?: number;
  /** How many calls before those that are counted, if not 10. */
  readonly warm?: number;
  /** Statements before the calls, one a line. */
  readonly before?: readonly string[];
  /** Statements after them. */
  readonly after?: readonly string[];
  /** What is prepared as `p`. */
  readonly prepared: string;
  /** The arguments of call number `n`. */
  readonly call: (n: number) => string;
}

const rows = 1000;
/** Few, as each of them does as much as hundreds of publishes. */
const calls = 2;

const columns = "email, name, status, amount, quantity, paid, tags";
const statements: Readonly<Record<string, (table: string) => string>> = {
  INSERT: (table) =>
    `insert into ${table} (${columns}) select 'user' || $1 * ${rows} + n || '@example.org',
      'A name of ' || n, 'open', n * 1.25, n % 100, n % 2 = 0, jsonb_build_array('one', 'two', n)
    from generate_series(1, ${rows}) n`,
  UPDATE: (table) =>
    `update ${table} set amount = amount + 1, quantity = quantity + $1, updated_at = now()`,
};

/** Triggers that insert one row into the plain table for each row that is written. */
const stored = (payload: string) => (table: string) => [
  `create function ${table}_changed() returns trigger language plpgsql as $$
    declare head jsonb := jsonb_build_object('id', null, 'schema', tg_table_schema, 'table', tg_table_name,
      'action', tg_op, 'metadata', jsonb_build_object('user', session_user, 'role', session_user,
      'application', '', 'session', pg_backend_pid(), 'transaction', pg_current_xact_id()::text));
    begin insert into plain.log (channel, key, payload) select '${table}', c.id::text, ${payload} from changed c;
      return null; end $$`,
  ...["insert", "update"].map((operation) =>
    `create trigger by_${operation} after ${operation} on ${table} referencing new table as changed
      for each statement execute function ${table}_changed()`
  ),
];
const watched = (payload: string) => (table: string) => [
  `select hark.watch('${table}'::regclass, payload => '${payload}')`,
];
const triggers: Readonly<Record<string, (table: string) => readonly string[]>> = {
  "no trigger": () => [],
  "a trigger that stores an empty payload": stored("'{}'"),
  "a trigger that stores the payload of key": stored("jsonb_set(head, '{id}', to_jsonb(c.id))"),
  "watched, payload key": watched("key"),
  "watched, payload new": watched("new"),
  "watched, payload full": watched("full"),
};

const name = (what: string, trigger: string) => `${what} of ${rows} rows: ${trigger}`;

/** The variants, each in a table of its own. */
export const writers: Readonly<Record<string, Variant>> = Object.fromEntries(
  Object.keys(statements).flatMap((what) =>
    Object.entries(triggers).map(([trigger, setUp], n): [string, Variant] => {
      const table = `${what.toLowerCase()}_${n}`;
      return [name(what, trigger), {
        floor: name(what, "no trigger"),
        calls,
        before: [
          `create table ${table} (id bigint generated always as identity primary key,
            email text not null unique, name text not null, status text not null,
            amount numeric(12, 2) not null, quantity integer not null, paid boolean not null,
            tags jsonb not null, created_at timestamptz not null default now(), updated_at timestamptz)`,
          `create index on ${table} (status, created_at)`,
          ...(what === "UPDATE" ? [statements.INSERT!(table).replace("$1", "1")] : []),
          ...setUp(table),
        ],
        prepared: `(int) as ${statements[what]!(table)}`,
        call: String,
      }];
    })
  ),
);
