/**
 * Ordinary roles, for what a superuser never sees.
 *
 * @module
 */

import type { TestContext } from "../../harness/mod.ts";

/** A role that may log in and nothing else. */
export interface Role {
  readonly name: string;
  /** The test's database, as this role. */
  readonly url: string;
}

/** Makes a role; it is dropped at the end of the test. With `owner` the test's database is its own. */
export async function role(context: TestContext, { owner = false } = {}): Promise<Role> {
  const name = `hark_test_${crypto.randomUUID().slice(0, 8)}`;
  await context.sql(`create role ${name} login password '${name}'`);
  context.use({
    async [Symbol.asyncDispose]() {
      await context.sql(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = $1",
        [name],
      );
      if (owner) await context.sql(`alter database ${context.database} owner to current_user`);
      await context.sql(`drop owned by ${name} cascade`);
      await context.sql(`drop role ${name}`);
    },
  });
  if (owner) await context.sql(`alter database ${context.database} owner to ${name}`);
  const url = new URL(context.url);
  url.username = url.password = name;
  return { name, url: url.href };
}
