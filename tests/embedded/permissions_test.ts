import { staysWithin } from "../cli/_support/audit.ts";

const programs: readonly [task: string, script: string, args: string[]][] = [
  ["listen", "cli.ts", ["listen"]],
  ["dev", "cli.ts", ["dev"]],
  ["demo", "examples/demo.ts", []],
];

for (const [task, script, args] of programs) {
  Deno.test(`${task}, with a server of its own, needs no more than its task's permission set`, async () => {
    await staysWithin(task, script, args, "");
  });
}
