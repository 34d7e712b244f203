/**
 * The tables that the rebuilding test writes to: each another kind, watched in another way.
 *
 * @module
 */

/** A table that is written to and watched. */
export interface Kind {
  readonly name: string;
  /** The columns after `create table name`, and what follows them. */
  readonly columns: string;
  /** More statements that belong to it. */
  readonly more?: string;
  /** What hark.watch is given besides the table. */
  readonly watch: string;
  /** Columns that are not published. */
  readonly hidden?: readonly string[];
  /** A random row's key, as SQL values; `r(n)` is a random number below n. */
  readonly key: (r: (n: number) => number) => string;
  /** The columns of the key, as SQL. */
  readonly keys: string;
  /** Something that changes keys of many rows. */
  readonly shift: (r: (n: number) => number) => string;
  /** Other tables by which its rows can be written. */
  readonly doors?: readonly string[];
  /** Whether there is no key, and so no upsert. */
  readonly keyless?: true;
  /** Whether ON CONFLICT can take its key for an arbiter. */
  readonly upsert?: false;
}

const rest = "v int, note text, at timestamptz, data jsonb, secret text";
const number = (r: (n: number) => number) => `${r(40)}`;
const pair = (r: (n: number) => number) => `${r(6)}, '${"abcdefg"[r(7)]}'`;
const shiftId = (name: string) => (r: (n: number) => number) =>
  `update ${name} set id = id + ${r(2) === 0 ? 40 : 1 + r(3)} where id % 5 = ${r(5)}`;

/** One of each. */
export const kinds: readonly Kind[] = [
  {
    name: "single",
    columns: `(id int primary key, ${rest})`,
    watch: "channel => 'single'",
    key: number,
    keys: "id",
    shift: shiftId("single"),
  },
  {
    name: "diffed",
    columns: `(id int primary key, ${rest})`,
    watch: "channel => 'diffed', payload => 'diff', exclude => '{secret}'",
    hidden: ["secret"],
    key: number,
    keys: "id",
    shift: shiftId("diffed"),
  },
  {
    name: "renewed",
    columns: `(id int primary key, ${rest})`,
    watch: "channel => 'renewed', payload => 'new', include => '{id,v,note}'",
    hidden: ["at", "data", "secret"],
    key: number,
    keys: "id",
    shift: shiftId("renewed"),
  },
  {
    name: "by_row",
    columns: `(id int primary key, ${rest})`,
    watch: "channel => 'by_row', level => 'row'",
    key: number,
    keys: "id",
    shift: shiftId("by_row"),
  },
  {
    name: "deferred",
    columns: `(id int primary key deferrable, ${rest})`,
    watch: "channel => 'deferred'",
    key: number,
    keys: "id",
    shift: (r) =>
      r(2) === 0
        ? `update deferred set id = id + ${1 + r(3)}`
        : `update deferred set id = case id when ${r(9)} then 3 when 3 then 5 else id + 9 end`,
    upsert: false,
  },
  {
    name: "composite",
    columns: `(b text, a int, ${rest}, primary key (a, b))`,
    watch: "channel => 'composite', payload => 'diff'",
    key: (r) => pair(r),
    keys: "a, b",
    shift: (r) => `update composite set a = a + ${1 + r(6)} where b < '${"abcdefg"[r(7)]}'`,
  },
  {
    name: "keyless",
    columns: `(id int, ${rest})`,
    watch: "channel => 'keyless'",
    key: (r) => `${r(12)}`,
    keys: "id",
    shift: (r) => `update keyless set id = id + 1 where id < ${r(12)}`,
    keyless: true,
  },
  {
    name: "parted",
    columns: `(a int, b text, ${rest}, primary key (a, b)) partition by list (b)`,
    more: `create table parted_ab partition of parted for values in ('a', 'b');
      create table parted_rest partition of parted default partition by range (a);
      create table parted_low (secret text, data jsonb, at timestamptz, note text, v int, gone int,
        b text not null, a int not null, primary key (a, b));
      alter table parted_low drop column gone;
      alter table parted_rest attach partition parted_low for values from (minvalue) to (3);
      create table parted_high partition of parted_rest for values from (3) to (maxvalue);`,
    watch: "channel => 'parted'",
    key: (r) => pair(r),
    keys: "a, b",
    shift: (r) =>
      r(2) === 0
        ? `update parted set b = chr(ascii(b) + ${1 + r(3)}) where a = ${r(6)}`
        : `update parted set a = a + ${1 + r(3)} where b = '${"abcdefg"[r(7)]}'`,
    doors: ["parted_ab", "parted_low", "parted_high", "parted_rest"],
  },
];
