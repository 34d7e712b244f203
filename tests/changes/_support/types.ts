/**
 * Values at the edges of PostgreSQL's types, as SQL.
 *
 * @module
 */

/** The values of a type, each an SQL literal that is cast to it. */
export interface Kind {
  readonly type: string;
  readonly values: readonly string[];
  /** The JSON of a value stands for another that PostgreSQL prints differently: compare by this. */
  readonly same?: (value: string) => string;
}

const long = (text: string, times: number) => `repeat('${text}', ${times})`;
const deep = `repeat('[', 6000) || repeat(']', 6000)`;
const asJson = (value: string) => `(${value})::text::jsonb::text`;

/** PostgreSQL's own types. */
export const builtIn: readonly Kind[] = [
  { type: "bool", values: ["true", "false"] },
  { type: "int2", values: ["-32768", "32767"] },
  { type: "int4", values: ["-2147483648", "2147483647"] },
  { type: "int8", values: ["-9223372036854775808", "9223372036854775807", "9007199254740993"] },
  {
    type: "float4",
    values: ["'NaN'", "'Infinity'", "'-Infinity'", "'1e-45'", "'3.4028235e38'", "0.1"],
  },
  {
    type: "float8",
    values: [
      "'NaN'",
      "'Infinity'",
      "'-Infinity'",
      "'5e-324'",
      "'1.7976931348623157e308'",
      "0.1",
    ],
  },
  {
    type: "numeric",
    values: [
      "'NaN'",
      "'Infinity'",
      "'-Infinity'",
      "1.10",
      "'1e131071'",
      "'1e-16383'",
      long("9", 5000),
    ],
  },
  { type: "numeric(5,2)", values: ["999.99", "'NaN'", "0"] },
  { type: "money", values: ["'-92233720368547758.08'", "'92233720368547758.07'"] },
  {
    type: "text",
    values: [
      "''",
      "'null'",
      String.raw`E'"quoted" \\\\ \' \u0001 \n \u2028 \U0001F600'`,
      "'%1$s %s %'",
      "'$hark$'",
    ],
  },
  { type: "varchar(3)", values: ["'äöü'", "''"] },
  { type: "char(5)", values: ["'ab'", "''"] },
  { type: "bpchar", values: ["'ab  '"] },
  { type: "name", values: [`'"x"; drop table y; --'`] },
  { type: "bytea", values: ["''", String.raw`'\x00ff5c27'`, "'abc'"] },
  { type: "bit(3)", values: ["'101'", "'000'"] },
  { type: "varbit", values: ["''", "'10101010101'"] },
  {
    type: "date",
    values: ["'infinity'", "'-infinity'", "'4713-01-01 BC'", "'5874897-12-31'", "'2024-02-29'"],
  },
  { type: "time", values: ["'00:00'", "'24:00'", "'23:59:59.999999'"] },
  { type: "timetz", values: ["'12:00+15:59:59'", "'12:00-15:59'", "'24:00+00'"] },
  {
    type: "timestamp",
    values: [
      "'infinity'",
      "'-infinity'",
      "'4713-01-01 BC'",
      "'294276-12-31 23:59:59.999999'",
      "'2024-05-01 10:00:00.123456'",
    ],
  },
  {
    type: "timestamptz",
    values: [
      "'infinity'",
      "'-infinity'",
      "'4714-11-24 00:00:00+00 BC'",
      "'294276-12-31 23:59:59.999999+00'",
      "'2024-05-01 10:00:00.123456+05:45'",
    ],
  },
  {
    type: "interval",
    values: [
      "'1 mon -1 day 00:00:01.5'",
      "'-178000000 years'",
      "'1 day -25:00:00'",
      "'0'",
      "'-1.5 seconds'",
    ],
  },
  { type: "interval day to second(2)", values: ["'1 day 00:00:01.55'"] },
  { type: "uuid", values: ["'00000000-0000-0000-0000-000000000001'"] },
  { type: "inet", values: ["'192.168.1.1/24'", "'::1'", "'10.0.0.1'"] },
  { type: "cidr", values: ["'10.0.0.0/8'", "'2001:db8::/32'"] },
  { type: "macaddr", values: ["'08:00:2b:01:02:03'"] },
  { type: "macaddr8", values: ["'08:00:2b:01:02:03:04:05'"] },
  { type: "point", values: ["'(NaN,Infinity)'", "'(0.1,-1e300)'"] },
  { type: "line", values: ["'{1,2,3}'"] },
  { type: "lseg", values: ["'[(0,0),(1,1)]'"] },
  { type: "box", values: ["'(1,1),(0,0)'"] },
  { type: "path", values: ["'((0,0),(1,1))'", "'[(0,0),(1,1)]'"] },
  { type: "polygon", values: ["'((0,0),(1,1),(1,0))'"] },
  { type: "circle", values: ["'<(0,0),1.5>'"] },
  {
    type: "jsonb",
    values: [
      `'{"a": [1, null, "x"], "a.b": {"é": 1.10}}'`,
      "'[]'",
      `'"text"'`,
      "'1e1000'",
      "'true'",
    ],
  },
  {
    type: "json",
    values: [
      `'{"b": 1, "a":  [1,  2], "é": "\\u00e9 \\ud83d\\ude00", "hash": "3e1234567"}'`,
      `'{"a": 1, "a": 2}'`,
      "'1.10'",
      `'"' || repeat('7', 400) || '"'`,
      "'[' || repeat('{},', 4000) || '1]'",
      deep,
    ],
    same: asJson,
  },
  { type: "xml", values: ["'<a b=\"c\">d &amp; e</a>'", "''"] },
  { type: "tsvector", values: [`'''it''''s'':1A,2 b:3'`, "''"] },
  { type: "tsquery", values: [`'a & !b | (c <-> d:*)'`] },
  { type: "oid", values: ["4294967295", "0"] },
  { type: "xid", values: ["'4294967295'"] },
  { type: "xid8", values: ["'18446744073709551615'"] },
  { type: "cid", values: ["'1'"] },
  { type: "tid", values: ["'(4294967295,65535)'"] },
  { type: "pg_lsn", values: ["'FFFFFFFF/FFFFFFFF'"] },
  { type: "pg_snapshot", values: ["'10:20:10,14,15'"] },
  { type: "regclass", values: ["'pg_class'", "0", "4294967295"] },
  { type: "regproc", values: ["'hark.version'"] },
  { type: "regprocedure", values: ["'hark.version()'"] },
  { type: "regoper", values: ["'||/'"] },
  { type: "regoperator", values: ["'+(integer,integer)'"] },
  { type: "regtype", values: ["'double precision[]'"] },
  { type: "regrole", values: ["current_user::text"] },
  { type: "regnamespace", values: ["'hark'"] },
  { type: "regconfig", values: ["'simple'"] },
  { type: "regdictionary", values: ["'simple'"] },
  { type: "regcollation", values: [`'"C"'`] },
  { type: "int4range", values: ["'empty'", "'(,)'", "'[1,5)'"] },
  { type: "int8range", values: ["'[1,9223372036854775807)'"] },
  { type: "numrange", values: ["'(1.50,Infinity]'", "'[NaN,NaN]'"] },
  { type: "tsrange", values: ["'[-infinity,2024-01-01 00:00:00)'"] },
  {
    type: "tstzrange",
    values: ["'[2024-01-01 00:00:00+05,infinity]'", "'(,2024-01-01 00:00:00+00)'"],
  },
  { type: "daterange", values: ["'[0044-03-15 BC,)'"] },
  { type: "int4multirange", values: ["'{}'", "'{[1,2),[5,)}'"] },
  { type: "tstzmultirange", values: ["'{[2024-01-01 00:00:00+05,2024-01-02 00:00:00+05)}'"] },
  { type: "int2vector", values: ["'1 2 3'"] },
  { type: "jsonpath", values: [`'$."a"[*]?(@ > 1)'`] },
  { type: "txid_snapshot", values: ["'10:20:10,14,15'"] },
];

/** Types that users make, with names to trip over. */
export const userMadeSetup = `
  create schema "other one";
  create type "other one"."Mood; --" as enum ('', 'it''s "fine"', 'a,b', '{x}', 'null', '\\', ' x ');
  create type "other one".plain as (n integer, t text, at timestamptz, list numeric[]);
  create type "other one"."Nested ""one""" as (m "other one"."Mood; --", p "other one".plain,
    ms "other one"."Mood; --"[], j json);
  create type "other one".textrange as range (subtype = text, collation = "C");
  create domain "other one".word as text collate "C" check (value <> 'forbidden');
  create domain "other one".words as "other one".word[];
  create domain "other one".code as char(4);
  create domain "other one".bits as bit(7);
  create domain "other one".record_of as "other one".plain;`;

/** Their values. */
export const userMade: readonly Kind[] = [
  {
    type: `"other one"."Mood; --"`,
    values: ["''", `'it''s "fine"'`, "'a,b'", "'{x}'", "'null'", String.raw`'\'`, "' x '"],
  },
  {
    type: `"other one".plain`,
    values: [
      `'(1,"a ""b"" , c","2024-05-01 10:00:00+05","{1.10,NULL,NaN}")'`,
      "'(,,,)'",
      "row(null, '', null, '{}')",
    ],
  },
  {
    type: `"other one"."Nested ""one"""`,
    values: [
      `row('a,b', row(1, 'x', 'infinity', null), array['', 'null', null, '{x}'], '{"a":  1}')`,
      "row(null, null, null, null)",
    ],
  },
  { type: `"other one".textrange`, values: [`'["a,b","c""d")'`, "'empty'", "'(,)'"] },
  { type: `"other one".textmultirange`, values: [`'{["a,b","c""d"),[x,)}'`] },
  { type: `"other one".word`, values: ["'x'", "''"] },
  { type: `"other one".words`, values: [`'{a,NULL,"NULL","",","}'`, "'{}'"] },
  { type: `"other one".code`, values: ["'abcd'", "'a'"] },
  { type: `"other one".bits`, values: ["'1010101'"] },
  { type: `"other one".record_of`, values: [`'(1,a,infinity,{})'`] },
];

/** Of extensions, where they are installed. */
export const ofExtensions: Readonly<Record<string, readonly Kind[]>> = {
  citext: [{ type: "citext", values: ["'ABC'", "''"] }],
  hstore: [{ type: "hstore", values: [`'a=>1, "b c"=>"it''s", n=>NULL'`, "''"] }],
  ltree: [{ type: "ltree", values: ["'a.b.c'"] }, { type: "lquery", values: ["'*.a{1,2}'"] }],
  cube: [{ type: "cube", values: ["'(1,2),(3,4)'"] }],
};

/** JSON that jsonb cannot hold, and which therefore comes as its text. */
export const onlyJson: readonly string[] = [
  String.raw`'"a\u0000b"'`,
  String.raw`'{"lone": "\ud83d", "x": 1}'`,
  String.raw`'"\ude00\ud83d"'`,
  String.raw`'"\ud83d\\\ude00"'`,
  "'1e400000'",
  "'[1e-400000000000]'",
];
