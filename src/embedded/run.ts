/**
 * Runs one of PostgreSQL's programs as the server's user.
 *
 * @module
 */

import type { Account } from "./account.ts";

/** The result of a program. */
export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a program to its end. Its environment is empty, so that the caller's PGDATA, PGPORT or
 * LC_ALL does not reach it. On Windows the environment is kept, because programs there need
 * SystemRoot.
 *
 * `quiet` leaves the output unread. A server started on Windows inherits the pipe of `pg_ctl`, so
 * the pipe would not close before the server ends.
 */
export async function runProgram(
  path: string,
  args: string[],
  account: Account,
  quiet: boolean = false,
): Promise<Outcome> {
  const windows = Deno.build.os === "windows";
  const output = quiet && windows ? "null" : "piped";
  const command = new Deno.Command(path, {
    args,
    stdin: "null",
    stdout: output,
    stderr: output,
    ...(windows ? {} : { cwd: "/", clearEnv: true, env: { LC_ALL: "C" } }),
    ...(account.uid === undefined ? {} : { uid: account.uid }),
    ...(account.gid === undefined ? {} : { gid: account.gid }),
  });
  if (output === "null") {
    const { code } = await command.spawn().status;
    return { code, stdout: "", stderr: "" };
  }
  const { code, stdout, stderr } = await command.output();
  const text = new TextDecoder();
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}
