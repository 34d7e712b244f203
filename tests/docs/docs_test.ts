import assert from "node:assert/strict";
import { join } from "node:path";
import { allPages, type Block, blocksOf, type Page } from "../checks/markdown.ts";
import { PROJECT, scratch, spawn, spawnDeno, test, type TestContext } from "../harness/mod.ts";
import { sqlFunctions } from "./functions.ts";
import { generated } from "./generated.ts";
import { harkArguments, refusal } from "./help.ts";
import { pictures } from "./pictures.ts";
import { screens } from "./screens.ts";

const pages = await allPages();

/** A lock of their own: what only an example imports is not fetched with the program. */
const lock = `--lock=${join(PROJECT, "tests", "docs", "deno.lock")}`;

/** Whether a block is run, or changes what later ones find. */
const isRun = ({ language, note }: Block) => language === "setup" || /^(run|test)\b/.test(note);

for (const page of pages.filter((page) => blocksOf(page).some(isRun))) {
  test(`the programs in ${page.path} run as they are written`, { timeout: 180_000 }, async (c) => {
    let printed = "";
    for (const block of blocksOf(page)) {
      if (block.note === "prints") assert.equal(printed, block.text, at(page, block));
      else if (isRun(block)) printed = await run(c, page, block);
    }
  });
}

/** Runs one block and gives what it printed. */
async function run(context: TestContext, page: Page, block: Block): Promise<string> {
  if (block.language === "setup" || block.language === "sql") {
    await context.sql(block.text).catch((error) => assert.fail(`${at(page, block)}: ${error}`));
    return "";
  }
  assert.equal(block.language, "ts", `${at(page, block)}: only ts and sql can be run`);
  await using folder = await scratch();
  const file = join(folder.path, block.note === "test" ? "block_test.ts" : "block.ts");
  await Deno.writeTextFile(file, block.text);
  const env = { DATABASE_URL: context.url };
  const [, until] = /^run until: (.*)$/.exec(block.note) ?? [];
  const [, set = "example"] = /^run with: (.*)$/.exec(block.note) ?? [];
  await using child = block.note === "test"
    ? spawn(
      Deno.execPath(),
      [
        "test",
        "--quiet",
        "--no-check",
        lock,
        "-P=test",
        `--config=${join(PROJECT, "deno.json")}`,
        file,
      ],
      { env },
    )
    : spawnDeno([file], { permissions: [`-P=${set}`, lock], env });
  if (until !== undefined) {
    await child.line(new RegExp(`^${RegExp.escape(until)}$`), { deadline: 60_000 });
    child.kill();
  }
  const { code, stdout, stderr } = await child.ended({ deadline: 90_000 });
  if (until === undefined) assert.equal(code, 0, `${at(page, block)}:\n${stdout}${stderr}`);
  return stdout.trimEnd();
}

Deno.test("every command line in the documentation is one that hark takes", () => {
  let count = 0;
  for (const page of pages) {
    for (const block of blocksOf(page).filter(({ language }) => language === "sh")) {
      block.text.replaceAll("\\\n", "").split("\n").forEach((line, n) => {
        const args = harkArguments(line);
        if (args === undefined) return;
        count++;
        assert.equal(refusal(args), undefined, `${page.path}:${block.line + n}: ${line}`);
      });
    }
  }
  assert(count > 20, `${count} command lines found`);
});

test(
  "the screens, help pages and signatures in the documentation are what the program gives",
  { timeout: 120_000 },
  async ({ url, client }) => {
    const functions = await sqlFunctions(await client());
    const made = { functions, screens: await screens(url) };
    let count = 0;
    for (const page of pages) {
      for (const block of blocksOf(page)) {
        const text = await generated(page, block, made);
        if (text === undefined) continue;
        count++;
        assert.equal(
          block.text,
          text,
          `${at(page, block)}: not as it is now. Run: deno task screens`,
        );
      }
    }
    assert(count > 20, `${count} generated blocks found`);
  },
);

Deno.test("the pictures are those that are drawn", async () => {
  for (const [name, svg] of Object.entries(pictures)) {
    const file = await Deno.readTextFile(join(PROJECT, "docs", "pictures", name));
    assert.equal(file, svg, `docs/pictures/${name}: run deno task screens`);
  }
});

test("the SQL reference names every function that a role can be granted", async ({ client }) => {
  const page = pages.find(({ path }) => path === "docs/reference/sql.md")!;
  const named = new Set(
    blocksOf(page).flatMap(({ note, text }) =>
      note.startsWith("sql: ") ? note.slice(5).split(" ") : text.split(/\s+/)
    ),
  );
  const grantable = [...(await sqlFunctions(await client())).values()]
    .filter(({ name, rights }) => rights.size > 0 || name.startsWith("grant_"))
    .map(({ name }) => name);
  assert.deepEqual(grantable.filter((name) => !named.has(name)), []);
});

function at({ path }: Page, { line }: Block): string {
  return `${path}:${line}`;
}
