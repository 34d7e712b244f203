/**
 * The functions of the schema: their signatures, and which role may call them.
 *
 * @module
 */

import type { Queryable } from "../../src/database/queryable.ts";

/** A function of the schema. */
export interface SqlFunction {
  /** Its name, without the schema. */
  readonly name: string;
  /** As it is declared: name, arguments, result. */
  readonly signature: string;
  /** Whether the role that has the right, from `hark.grant_publish` or one of its kin, may call it. */
  readonly rights: ReadonlySet<Right>;
}

/** What a role can be granted. */
export type Right = "publish" | "read" | "consume" | "operate" | "observe";

const rights: readonly Right[] = ["publish", "read", "consume", "operate", "observe"];

/** All functions, by name. Roles are made to ask for their rights, in a transaction that is rolled back. */
export async function sqlFunctions(client: Queryable): Promise<Map<string, SqlFunction>> {
  await client.query("begin");
  try {
    for (const right of rights) {
      await client.query(`create role hark_docs_${right}`);
      await client.query(`select hark.grant_${right}('hark_docs_${right}')`);
    }
    const { rows } = await client.query(
      `select p.proname as name, pg_get_function_arguments(p.oid) as arguments,
        pg_get_function_result(p.oid) as result,
        ${
        rights.map((right) =>
          `has_function_privilege('hark_docs_${right}', p.oid, 'execute') as ${right}`
        ).join(", ")
      }
      from pg_proc p where p.pronamespace = 'hark'::regnamespace order by p.proname`,
    );
    return new Map(rows.map((row) => [row.name, {
      name: row.name,
      signature: signature(row.name, row.arguments, row.result),
      rights: new Set(rights.filter((right) => row[right])),
    }]));
  } finally {
    await client.query("rollback");
  }
}

/** Over several lines where it is long. */
function signature(name: string, args: string, result: string): string {
  const plain = (text: string) =>
    text.replaceAll(/::(text\[\]|text|bigint|jsonb|interval|timestamp with time zone)/g, "")
      .replaceAll(" DEFAULT ", " default ").replaceAll("NULL", "null")
      .replaceAll("timestamp with time zone", "timestamptz")
      .replaceAll("TABLE(", "table (").replaceAll("SETOF", "setof");
  const given = plain(args);
  const returns = `returns ${plain(result)}`;
  const line = `hark.${name}(${given}) ${returns}`;
  if (line.length <= 98) return line;
  if (`hark.${name}(${given})`.length <= 98) return `hark.${name}(${given})\n  ${wrapped(returns)}`;
  return `hark.${name}(\n  ${wrapped(given)}\n) ${wrapped(returns)}`;
}

function wrapped(text: string): string {
  const lines = [""];
  for (const part of text.split(/(?<=,) (?![^{]*\})/)) {
    if (`${lines.at(-1)} ${part}`.length > 94) lines.push(part);
    else lines[lines.length - 1] = `${lines.at(-1)} ${part}`.trim();
  }
  return lines.join("\n  ");
}
