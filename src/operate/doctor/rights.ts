/**
 * Which roles have only a part of a right.
 *
 * @module
 */

import rights from "../../database/rights.json" with { type: "json" };
import type { Queryable } from "../../database/queryable.ts";

/** The kinds of rights. */
const kinds = ["publish", "read", "consume", "operate", "observe"] as const;
type Kind = (typeof kinds)[number];

/** A role that may call some of the functions of a kind of rights, and not all. */
export interface Grantee {
  readonly role: string;
  readonly kind: Kind;
  /** What it lacks: functions, or `usage` of the schema. */
  readonly missing: readonly string[];
}

/** The functions that only this kind of rights has. */
function own(kind: Kind): string[] {
  const others = kinds.filter((one) => one !== kind).flatMap((one) => rights[one]);
  return rights[kind].filter((name) => !others.includes(name));
}

/** The roles whose rights are incomplete. Rights that come from another role count. */
export async function grantees(db: Queryable): Promise<Grantee[]> {
  const { rows } = await db.query(
    `select r.rolname::text as role, has_schema_privilege(r.oid, 'hark', 'usage') as usage,
      (select json_agg(distinct p.proname)::text from pg_proc p
        where p.pronamespace = 'hark'::regnamespace and has_function_privilege(r.oid, p.oid, 'execute')) as names
    from pg_roles r
    where not r.rolsuper and r.rolname !~ '^pg_' and exists (
      select from pg_proc p cross join lateral aclexplode(p.proacl) a
      where p.pronamespace = 'hark'::regnamespace and a.grantee = r.oid and p.proowner <> r.oid)
    order by 1`,
  );
  return rows.flatMap(({ role, usage, names }) => {
    const has = new Set<string>(JSON.parse(names ?? "[]"));
    return kinds.flatMap((kind) => {
      if (!own(kind).some((name) => has.has(name))) return [];
      const missing = [
        ...usage ? [] : ["usage of the schema"],
        ...rights[kind].filter((name) => !has.has(name)),
      ];
      return missing.length === 0 ? [] : [{ role, kind, missing }];
    });
  });
}
