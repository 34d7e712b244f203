import assert from "node:assert/strict";
import config from "../../deno.json" with { type: "json" };
import { commands } from "../../src/cli/main.ts";
import { scratch } from "../harness/mod.ts";
import { oneByOne, output, ran, refused } from "./_support/hark.ts";

const names = Object.keys(commands);

Deno.test("what is missing on the command line is named", async () => {
  const cases: [args: string[], sentence: string][] = [
    [["cleanup"], "--older-than is missing."],
    [["schedule", "add"], "NAME is missing."],
    [["seek"], "CONSUMER is missing."],
    [["dead", "list", "--limit"], "--limit is given without its value, N."],
  ];
  for (const [args, sentence] of cases) {
    const { code, stderr } = await ran(args);
    assert.equal(code, 2, stderr);
    assert.equal(stderr.split("\n")[0], `hark: ${sentence}`);
  }
});

Deno.test("hark --help names every command and the exit codes, and asks for no right", async () => {
  await using folder = await scratch();
  const audit = `${folder.path}/audit.jsonl`;
  const help = await output(["--help"], { env: { DENO_AUDIT_PERMISSIONS: audit } });
  for (const name of names) assert.match(help, new RegExp(`^  ${name} `, "m"));
  assert.match(help, /Exit codes: 0 /);
  assert.match(help, /hark notify orders '\{"id":42\}'/);
  // The driver reads the environment when it is loaded, so this also says that it was not.
  assert.equal(await Deno.readTextFile(audit).catch(() => ""), "");
});

Deno.test("every command explains itself with examples", async () => {
  await oneByOne(names, async (command) => {
    const help = await output([command, "--help"]);
    assert.match(help, new RegExp(`^Usage: hark ${command}`, "m"));
    assert.match(help, new RegExp(`^Examples:\n  .*hark ${command}`, "m"), help);
  });
});

Deno.test("no usage line breaks within the brackets around an option", async () => {
  await oneByOne(names, async (command) => {
    const help = await output([command, "--help"]);
    const [usage = ""] = /^Usage: [^]*?\n\n/m.exec(help) ?? [];
    for (const line of usage.trimEnd().split("\n")) {
      const count = (mark: RegExp) => line.match(mark)?.length ?? 0;
      assert.equal(count(/\[/g), count(/\]/g), line);
      assert.equal(count(/\(/g), count(/\)/g), line);
      assert(line.length <= 100 && !/\[ | \]| \.\.\./.test(line), line);
    }
  });
});

Deno.test("hark without a command shows the help and fails", async () => {
  const { code, stdout } = await ran([]);
  assert.equal(code, 2);
  assert.match(stdout, /^ {2}listen /m);
});

Deno.test("hark --version says the package's version", async () => {
  assert.equal((await output(["--version"])).trim(), config.version);
});

Deno.test("a mistyped command or option is answered with the one that was meant", async () => {
  await refused(["listne"], 2, /Did you mean `listen`/);
  await refused(["cleanup", "--older-then", "3d"], 2, /Did you mean `--older-than`/);
  await refused(["completions"], 2, /Did you mean `completion`/);
  await refused(["notify", "orders", "-1"], 2, /comes after --/);
  await refused(["status", "extra"], 2, /does not take extra[^]*hark status --help/);
});

Deno.test("completions are printed for the common shells, and complete", async () => {
  await oneByOne(["bash", "zsh", "fish"], async (shell) => {
    assert.match(await output(["completion", shell]), /hark/);
  });
  assert.match(await output(["completion", "bash", "cle"]), /cleanup/);
  assert.match(await output(["completion", "bash", "tail", "--s"]), /--since/);
});

Deno.test("hark help COMMAND is the help page of the command", async () => {
  assert.equal(await output(["help"]), await output(["--help"]));
  for (const command of [["status"], ["log", "show"], ["listen"], ["retention"]]) {
    assert.equal(await output(["help", ...command]), await output([...command, "--help"]));
  }
  await refused(["help", "stats"], 2, /there is no command stats/);
});
