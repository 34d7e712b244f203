/**
 * Node.js and Bun, where the machine has one that is new enough: `await using` needs Node.js 24. The
 * folders are those that the permissions of the tests name.
 */

import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { filesBelow } from "../checks/files.ts";
import { PROJECT, scratch, spawn, test } from "../harness/mod.ts";

/** The oldest version of each that can run Hark. */
const oldest = { node: 24, bun: 1 } as const;

const program = `
import { connect, Consumer, HarkError, migrate, notify } from "./mod.ts";

await using db = await connect(process.env.DATABASE_URL);
await migrate(db);
const seen = [];
const consumer = new Consumer(db, {
  id: "billing",
  channels: "orders",
  transactional: true,
  async handle({ payload }, { tx }) {
    await tx.query("select 1");
    if (seen.push(payload) === 2) void consumer.stop();
  },
});
const running = consumer.run();
await notify(db, "orders", 1, { key: "a" });
await db.transaction((tx) => notify(tx, "orders", 2, { key: "a" }));
await running;
const error = await notify(db, "").catch((error) => error);
console.log(seen.join(), error instanceof HarkError, error.code);
`;

const folders = ["/usr/local/bin", "/usr/bin", "/opt/homebrew/bin"];

for (const [runtime, least] of Object.entries(oldest)) {
  const path = await newEnough(runtime, least);
  test(
    `${runtime} ${least} and later publishes and consumes`,
    { schema: false, ignore: path === undefined },
    async ({ url }) => {
      await using folder = await scratch();
      for (const file of ["mod.ts", ...await filesBelow("src")]) {
        const to = join(folder.path, file);
        await Deno.mkdir(dirname(to), { recursive: true });
        await Deno.copyFile(join(PROJECT, file), to);
      }
      await Deno.writeTextFile(join(folder.path, "program.ts"), program);
      await Deno.writeTextFile(join(folder.path, "package.json"), await packageJson());
      await using installing = spawn(Deno.execPath(), ["install", "--no-lock"], {
        cwd: folder.path,
      });
      assert.equal((await installing.ended()).code, 0);
      await using child = spawn(path!, ["program.ts"], {
        cwd: folder.path,
        env: { DATABASE_URL: url },
      });
      const { code, stdout, stderr } = await child.ended({ deadline: 30_000 });
      assert.equal(code, 0, stderr);
      assert.equal(stdout, "1,2 true BAD_CHANNEL\n");
    },
  );
}

/** The path of a runtime of this major version or a later one. */
async function newEnough(runtime: string, least: number): Promise<string | undefined> {
  for (const path of folders.map((folder) => join(folder, runtime))) {
    try {
      const { stdout } = await new Deno.Command(path, { args: ["--version"], stdin: "null" })
        .output();
      if (Number(/\d+/.exec(new TextDecoder().decode(stdout))?.[0]) >= least) return path;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return undefined;
}

/** What the program imports from npm, in the versions of deno.json. */
async function packageJson(): Promise<string> {
  const { imports } = JSON.parse(await Deno.readTextFile(join(PROJECT, "deno.json")));
  const dependencies = ["pg", "@logtape/logtape"].map((name) => {
    const specifier: string = imports[name];
    return [name, specifier.slice(specifier.lastIndexOf("@") + 1)];
  });
  return JSON.stringify({ type: "module", dependencies: Object.fromEntries(dependencies) });
}
