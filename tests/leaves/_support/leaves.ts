/**
 * The leaves of a test's log.
 *
 * @module
 */

import type { Row } from "../../harness/mod.ts";

/** Whatever is there is older than this. */
export const all = new Date(Date.now() + 3_600_000);

/** Where the log is. */
export interface On {
  readonly url: string;
  sql(text: string, values?: unknown[]): Promise<Row[]>;
}

/** Its leaves in order, with how many rows each has. */
export async function leaves(on: On): Promise<{ name: string; rows: number }[]> {
  return await on.sql(
    `select f.name, (xpath('//n/text()', query_to_xml(format('select count(*) as n from hark.%I', f.name), false, true, ''))
      )[1]::text::int as rows from hark.leaves() f`,
  ) as { name: string; rows: number }[];
}

/** Their names. */
export const names = async (on: On) => (await leaves(on)).map(({ name }) => name);

/** The next id is this one. */
export async function from(on: On, id: number): Promise<void> {
  await on.sql("select setval('hark.log_id_seq', $1)", [id - 1]);
}
