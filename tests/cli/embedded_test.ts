import assert from "node:assert/strict";
import { join } from "node:path";
import { reachablePlace } from "../../src/embedded/account.ts";
import { type Child, once, PROJECT, scratch, spawnDeno, test } from "../harness/mod.ts";
import { hark, jsonOutput, output, ran, rightsOf } from "./_support/hark.ts";

const ROOT = Deno.build.os !== "windows" && Deno.uid() === 0;
const NOBODY = { uid: 65_534, gid: 65_534 };
const OPEN = ROOT && await reachablePlace(NOBODY, join(PROJECT, "mod.ts"), false) ===
    join(PROJECT, "mod.ts");

/** Starting may mean to fetch a server first. */
const START = { deadline: 60_000 };

/** Waits until it listens, and publishes from a second terminal until it has heard of it. */
async function heard(child: Child, cwd: string, payload: string): Promise<void> {
  await child.line(/^In a second terminal: deno task hark notify orders '\{"id":42\}'$/, START);
  assert.match(await output(["notify", "orders", payload], { cwd }), /^orders #\d+\n$/);
  await child.line(new RegExp(`^(live|replay) .* orders #\\d+ ${payload}$`));
}

async function ends(child: Child, signal: Deno.Signal): Promise<void> {
  child.kill(signal);
  const { code, stderr } = await child.ended({ deadline: 30_000 });
  assert.equal(code, 0, stderr);
}

Deno.test("listen without a database starts one, which a second terminal finds, twice", async () => {
  await using folder = await scratch();
  const cwd = folder.path;
  {
    await using child = hark(["listen"], { cwd });
    await heard(child, cwd, "1");
    assert.equal((await jsonOutput(["status"], { cwd })).consumers[0].serving, true);
    // A second one joins that server, and leaves it running when it ends.
    await using other = hark(["dev"], { cwd });
    await other.line(/^Ctrl-C ends it/, START);
    await ends(other, "SIGTERM");
    assert.match(
      other.stderr,
      /joining the PostgreSQL that runs[^]*PostgreSQL goes on, as another/,
    );
    await heard(child, cwd, "2");
    await ends(child, "SIGINT");
    assert.match(child.stderr, /stopped; progress is stored\nPostgreSQL has ended; its data stays/);
  }
  assert.equal((await ran(["notify", "orders"], { cwd })).code, 3, "the server has been stopped");
  await using again = hark(["listen"], { cwd });
  await heard(again, cwd, "3");
  assert.doesNotMatch(again.stdout, /#1 |#2 /, "what was handled does not come again");
  // The terminal is closed: nothing is left behind.
  await ends(again, Deno.build.os === "windows" ? "SIGINT" : "SIGHUP");
  assert.equal((await ran(["notify", "orders"], { cwd })).code, 3, "the server has been stopped");
});

Deno.test("listen starts again after kill -9, and repeats or goes on", async () => {
  await using folder = await scratch();
  const cwd = folder.path;
  {
    await using child = hark(["listen"], { cwd });
    await heard(child, cwd, "1");
    child.kill("SIGKILL");
    await child.ended();
  }
  await output(["notify", "orders", "2"], { cwd }); // the server outlives the command that started it
  await using again = hark(["listen"], { cwd });
  await again.line(/^replay .* #2 2( attempt 2)?$/, START);
  await heard(again, cwd, "3");
  await ends(again, "SIGINT");
});

Deno.test("listen without a database runs for an ordinary user", { ignore: !OPEN }, async () => {
  await using folder = await scratch();
  const cwd = folder.path;
  await Deno.chown(cwd, NOBODY.uid, NOBODY.gid);
  // Root's cache is not readable for this user; without a lock file, as root owns it.
  const env = { HOME: cwd, DENO_DIR: join(cwd, "cache"), DATABASE_URL: "" };
  const run = (args: string[]) =>
    spawnDeno(["cli.ts", ...args], {
      ...NOBODY,
      cwd,
      env,
      permissions: ["--no-lock", ...rightsOf(args[0]!)],
    });
  await using child = run(["listen"]);
  await child.line(/^In a second terminal/, START);
  await using second = run(["notify", "orders", "1"]);
  assert.equal((await second.ended(START)).code, 0, second.stderr);
  await child.line(/^(live|replay) .* #1 1$/);
  assert.equal((await Deno.stat(join(cwd, ".hark"))).uid, NOBODY.uid);
  await ends(child, "SIGINT");
});

Deno.test("a second Ctrl-C says that the server is left running, and dev ends it", async () => {
  await using folder = await scratch();
  const cwd = folder.path;
  await Deno.writeTextFile(
    join(cwd, "hangs.ts"),
    `export const hangs = { id: "hangs", channels: "orders",
      handle() { console.log("begun"); return new Promise(() => {}); } };`,
  );
  await using child = hark(["listen", "hangs.ts"], { cwd });
  await child.line(/^In a second terminal/, START);
  await output(["notify", "orders"], { cwd });
  await child.line(/^begun$/);
  child.kill("SIGINT");
  const again = setInterval(() => child.kill("SIGINT"), 150);
  const { code, stderr } = await child.ended();
  clearInterval(again);
  assert.equal(code, 130);
  assert.match(stderr, /PostgreSQL is left running on port \d+ .*: deno task dev, then Ctrl-C$/m);
  await using dev = hark(["dev"], { cwd });
  await dev.line(/^Ctrl-C ends it/, START);
  await ends(dev, "SIGINT");
  assert.match(dev.stderr, /^joining [^]*^PostgreSQL has ended; its data stays in /m);
});

Deno.test("dev gives a database with the schema, and says where", async () => {
  await using folder = await scratch();
  const cwd = folder.path;
  await using child = hark(["dev", "--json"], { cwd });
  const { url, port } = JSON.parse((await child.line(/^\{.*\}$/, START))[0]);
  assert.equal(new URL(url).port, String(port));
  assert.equal((await once(url, "select hark.notify('orders')::int as id"))[0].id, 1);
  await ends(child, "SIGTERM");
});

Deno.test("the demo keeps its promises", async () => {
  await using child = spawnDeno(["examples/demo.ts"], {
    permissions: ["--no-lock", ...rightsOf("demo")],
  });
  const { code, stdout, stderr } = await child.ended({ deadline: 100_000 });
  assert.equal(code, 0, stderr);
  assert.match(stdout, /replay #3[^]*ok marked as replays[^]*All as promised/);
});

Deno.test(
  "the demo, interrupted, removes its server",
  { ignore: Deno.build.os === "windows" },
  async () => {
    await using folder = await scratch();
    for (
      const [signal, expected] of [["SIGINT", 130], ["SIGTERM", 143], ["SIGHUP", 129]] as const
    ) {
      await using child = spawnDeno(["examples/demo.ts"], {
        permissions: ["--no-lock", ...rightsOf("demo")],
        cwd: folder.path,
      });
      await child.line(/^1\. Four orders/, START);
      child.kill(signal);
      assert.equal((await child.ended(START)).code, expected, child.stderr);
      const state = join(folder.path, ".hark");
      const left = [...Deno.readDirSync(state)].filter(({ isDirectory }) => isDirectory);
      assert.deepEqual(left.map(({ name }) => name).filter((name) => name.startsWith("eph")), []);
    }
  },
);

test("the consumers of the examples run", async ({ url, sql }) => {
  await sql("select hark.notify('orders', '{\"id\":42}')");
  const path = join(PROJECT, "examples", "consumers");
  const stdout = await output(["listen", path, "--drain"], { url });
  assert.match(stdout, /^replay #1 \{ id: 42 \}$/m);
  assert.match(stdout, /^orders so far: 1$/m);
});
