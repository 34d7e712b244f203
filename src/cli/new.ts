/**
 * `hark new`: writes a first consumer, its test, and tasks to run them.
 *
 * @module
 */

import { withDefault } from "@optique/core/modifiers";
import { dirname, join } from "node:path";
import config from "../../deno.json" with { type: "json" };
import { HarkError } from "../errors.ts";
import { localCommand } from "./args/command.ts";
import { json, positional, words } from "./args/options.ts";
import { shellWord } from "./print/text.ts";

const isClone = !Deno.build.standalone && import.meta.url.startsWith("file:");

const consumer = `import { Consumer, type Notification } from "@hark/postgres";

/** The payload on the channel "signups". */
interface Signup {
  readonly name: string;
}

/** Greets each new user. */
export class Hello extends Consumer<Signup> {
  override readonly id = "hello";
  override readonly channels = "signups";

  override handle({ payload }: Notification<Signup>): void {
    console.log(\`Hello \${payload.name}\`);
  }
}
`;

const test = `import assert from "node:assert/strict";
import { publishAndDrain, testDatabase } from "@hark/postgres/testing";
import { Hello } from "../consumers/hello.ts";

Deno.test("each new user is greeted", async () => {
  await using db = await testDatabase();
  const { handled, failed } = await publishAndDrain(
    db,
    new Hello(db),
    { payload: { name: "Ada" } },
  );
  assert.equal(handled, 1);
  assert.deepEqual(failed, []);
});
`;

/** The command line of the clone. */
function ownCli(): string {
  return new URL("../../cli.ts", import.meta.url).href;
}

/** What the folder imports Hark from: JSR, or the clone that this command is run in. */
function source(): { readonly imports: Record<string, string>; readonly cli: string } {
  const { name, version, exports } = config;
  const released = `jsr:${name}@^${version}`;
  if (!isClone) return { imports: { [name]: released }, cli: `${released}/cli` };
  const here = (path: string) => new URL(`../../${path}`, import.meta.url).href;
  const own = Object.entries(exports).map((
    [from, path],
  ) => [`${name}${from.slice(1)}`, here(path)]);
  // A clone's modules find their packages in the import map of the program that imports them.
  return { imports: { ...Object.fromEntries(own), ...config.imports }, cli: ownCli() };
}

function settings(): string {
  const { imports, cli } = source();
  const hark = `deno run --allow-net --allow-read --allow-env --allow-sys=hostname ${
    shellWord(cli)
  }`;
  return `${
    JSON.stringify(
      {
        imports: {
          ...imports,
          "@electric-sql/pglite": "npm:@electric-sql/pglite@^0.5",
        },
        tasks: {
          test: "deno test --allow-read --allow-env --allow-net",
          hark,
          init: `${hark} init`,
          listen: `${hark} listen consumers/`,
          watch: `${hark} listen --watch consumers/`,
        },
      },
      null,
      2,
    )
  }\n`;
}

/** `hark new`. */
export const create = localCommand({
  name: "new",
  brief: "Write a first consumer, its test, and tasks.",
  description:
    "Writes deno.json, consumers/hello.ts and tests/hello_test.ts into a folder. It overwrites " +
    "nothing: if one of the files is there, it writes none. Then deno task test runs the test " +
    "without a server. With DATABASE_URL, deno task init installs the schema, deno task listen runs " +
    "the consumer, and deno task watch runs it again after each change.",
  examples: [
    ["hark new", "in this folder"],
    ["hark new shop", "in the folder shop, which is made"],
  ],
  options: {
    folder: withDefault(positional(words("FOLDER"), "The folder. Default: this one."), "."),
    json,
  },
  async run({ folder }) {
    const files = {
      "deno.json": settings(),
      "consumers/hello.ts": consumer,
      "tests/hello_test.ts": test,
    };
    const taken: string[] = [];
    try {
      for (const path of Object.keys(files)) if (await exists(join(folder, path))) taken.push(path);
    } catch (error) {
      if (error instanceof Deno.errors.NotCapable) throw mayNot("read", folder, error);
      throw error;
    }
    if (taken.length > 0) {
      throw new HarkError(
        "CONFLICT",
        `${folder} has ${taken.join(", ")}, and nothing was written`,
        {
          remedy: "Give another folder: hark new FOLDER.",
        },
      );
    }
    try {
      for (const [path, text] of Object.entries(files)) {
        const to = join(folder, path);
        await Deno.mkdir(dirname(to), { recursive: true });
        await Deno.writeTextFile(to, text, { createNew: true });
      }
    } catch (error) {
      if (error instanceof Deno.errors.NotCapable) throw mayNot("write into", folder, error);
      throw error;
    }
    const paths = Object.keys(files).map((path) => join(folder, path));
    const go = folder === "." ? "" : `cd ${shellWord(folder)} && `;
    return {
      json: { files: paths },
      text: `${paths.map((path) => `wrote ${path}`).join("\n")}\nnow: ${go}deno task test`,
    };
  },
});

/**
 * The installation of the README and the compiled program have no right to write, and a task has none
 * outside of its folder.
 */
function mayNot(what: "read" | "write into", folder: string, cause: Error): HarkError {
  const place = shellWord(folder);
  const cli = isClone ? shellWord(ownCli()) : "jsr:@hark/postgres/cli";
  const command = `Run: deno run --allow-read --allow-write=${place} ${cli} new ${place}`;
  return new HarkError("BAD_OPTION", `this program may not ${what} ${folder}`, {
    cause,
    remedy: command,
  });
}

async function exists(path: string): Promise<boolean> {
  try {
    await Deno.lstat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return false;
    }
    throw error;
  }
}
