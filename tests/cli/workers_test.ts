import assert from "node:assert/strict";
import { join } from "node:path";
import {
  type Child,
  dropInUse,
  patient,
  scratch,
  spawnDeno,
  test,
  until,
  within,
} from "../harness/mod.ts";
import { hark, jsonOutput, output, printer, refused, writeModules } from "./_support/hark.ts";

/**
 * Each notification of the channel "crash" ends the thread that has handled it, when the test closes a connection:
 * once that is stored, so that the next one does not meet it again.
 */
const crashes = (port: number) =>
  `const ends = {
  error() { throw new TypeError("an uncaught one"); },
  rejection() { Promise.reject(new RangeError("it is not caught")); },
  exit() { Deno.exit(3); },
};
async function end(way) {
  using open = await Deno.connect({ hostname: "127.0.0.1", port: ${port} });
  await open.read(new Uint8Array(1));
  console.log("ends", self.name);
  setTimeout(ends[way]);
}
export const fragile = { id: "fragile", channels: ["orders", "crash"], lease: ${patient(2000)},
  acknowledgeInterval: 0,
  handle({ channel, payload }) {
    console.log("handled", self.name, payload);
    if (channel === "crash") void end(payload);
  },
};
`;

/** How many threads a process has that run consumers; undefined where that cannot be seen. */
async function threadsOf(child: Child): Promise<number | undefined> {
  if (Deno.build.os !== "linux") return undefined;
  await using looking = spawnDeno(["tests/cli/_support/threads_of.ts", String(child.pid)], {
    permissions: ["--allow-all"],
  });
  return Number((await looking.ended()).stdout);
}

/** The address without a name for its sessions, so that each worker's are named after it. */
function unnamed(url: string): string {
  return url.replace(/\?.*$/, "");
}

/** Waits until `count` lines of its output match. */
async function lines(child: Child, pattern: RegExp, count: number): Promise<void> {
  await until(() => Promise.resolve((child.stdout.match(pattern)?.length ?? 0) >= count), {
    what: `${count} lines like ${pattern}; it wrote:\n${child.stdout}${child.stderr}`,
    deadline: 40_000,
  });
}

test(
  "a worker that crashes is started again, ten times over, and nothing piles up",
  { timeout: 120_000 },
  async ({ url, sql, use }) => {
    const folder = use(await scratch());
    using gate = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    await writeModules(folder.path, { "fragile.ts": crashes(gate.addr.port) });
    const child = use(hark(["listen", folder.path, "--workers", "3"], { url: unnamed(url) }));
    // A worker has two connections and a pool of up to four, which closes them after a while.
    const sessions = () =>
      sql(`
        select right(application_name, 2) as worker, pid || ' ' || backend_start as id
        from pg_stat_activity where datname = current_database()
          and application_name like 'hark listen w%'`);
    const allServe = () =>
      until(async () => new Set((await sessions()).map((s) => s.worker)).size === 3, {
        deadline: 40_000,
      });
    await allServe();
    await sql("select hark.notify('orders', '0')");
    await child.line(/^handled w\d 0$/);
    const threads = await threadsOf(child);
    const orphans = new Set<string>();
    for (let i = 1; i <= 10; i++) {
      const way = ["error", "rejection", "exit"][i % 3];
      const open = await sessions();
      await sql("select hark.notify('crash', to_jsonb($1::text))", [way]);
      const waiting = await within(gate.accept(), { what: "a thread to be about to end" });
      const unread = async () => (await sql("select unread::int from hark.status()"))[0].unread;
      await until(async () => await unread() === 0, { what: "what is handled to be stored" });
      waiting.close();
      await lines(child, /^ends w\d$/gm, i);
      const ended = child.stdout.match(/^ends w\d$/gm)?.at(-1)?.slice(-2);
      for (const { worker, id } of open) if (worker === ended) orphans.add(id);
      await sql("select hark.notify('orders', to_jsonb($1::int))", [i]);
      await child.line(new RegExp(`^handled w\\d ${i}$`), { deadline: 40_000 });
    }
    await allServe();
    assert.ok(orphans.size >= 20, `only ${orphans.size} sessions ended`);
    await until(async () => !(await sessions()).some(({ id }) => orphans.has(id)));
    await until(async () => await threadsOf(child) === threads);
    child.kill("SIGTERM");
    const { code, stderr } = await child.ended();
    assert.equal(code, 0, stderr);
    assert.match(stderr, /stopped; progress is stored/);
    const ended = stderr.match(/ error hark\.cli: w\d ended and starts again in [\d.]+ s: /g) ?? [];
    assert.equal(ended.length, 10, stderr);
    for (
      const reason of [
        /again in 0\.5 s: .*TypeError: an uncaught one \(file:.*fragile\.ts:\d+\)$/m,
        / s: .*RangeError: it is not caught/,
        / s: it called Deno\.exit\(3\)$/m,
      ]
    ) assert.match(stderr, reason);
    assert.match(stderr, / info w[123] hark\.consumer: /);
  },
);

test("the wait doubles for a worker that ends again and again", async ({ url, sql, use }) => {
  const folder = use(await scratch());
  const ends = `export default { id: "x", channels: "x", handle() {} };
    if (self.name === "w2") setTimeout(() => self.close(), 300);`;
  await writeModules(folder.path, { "ends.ts": ends + printer("billing") });
  const child = use(hark(["listen", folder.path, "--workers", "2"], { url }));
  for (const wait of ["0\\.5", "1", "2"]) {
    await child.line(new RegExp(`w2 ended and starts again in ${wait} s: it called close\\(\\)`));
  }
  // The other one serves in that time.
  await sql("select hark.notify('orders', '1')");
  await child.line(/^billing 1 /);
  child.kill("SIGINT");
  assert.equal((await child.ended()).code, 0);
});

test("stopping lets the handlers of all workers finish", async ({ url, sql, use }) => {
  const folder = use(await scratch());
  // Each handler waits until the test closes its connection.
  using gate = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = gate.addr as Deno.NetAddr;
  const slow = `export const slow = { id: "slow-" + self.name, channels: "orders",
    async handle() {
      console.log("begun", self.name);
      using open = await Deno.connect({ hostname: "127.0.0.1", port: ${port} });
      await open.read(new Uint8Array(1));
      console.log("finished", self.name);
    },
  };`;
  await writeModules(folder.path, { "slow.ts": slow });
  await sql("select hark.notify('orders')");
  const child = use(hark(["listen", folder.path, "--workers", "2"], { url }));
  await Promise.all([child.line(/^begun w1$/), child.line(/^begun w2$/)]);
  const waiting = [await gate.accept(), await gate.accept()];
  child.kill("SIGTERM");
  for (const one of waiting) one.close();
  const { code, stdout, stderr } = await child.ended();
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^finished w1$/m);
  assert.match(stdout, /^finished w2$/m);
  assert.deepEqual(
    await sql(`select consumer, handled::int as handled, owner is null as released
      from hark.status() order by 1`),
    [
      { consumer: "slow-w1", handled: 1, released: true },
      { consumer: "slow-w2", handled: 1, released: true },
    ],
  );
});

test("a second Ctrl-C ends workers that compute without a pause", async ({ url, sql, use }) => {
  const folder = use(await scratch());
  const loops = `export const loops = { id: "loops", channels: "orders",
    handle() { console.log("begun"); for (;;); } };`;
  await writeModules(folder.path, { "loops.ts": loops });
  await sql("select hark.notify('orders')");
  const child = use(hark(["listen", folder.path, "--workers", "2"], { url }));
  await child.line(/^begun$/);
  child.kill("SIGINT");
  await child.line(/^w[12]: waiting for a handler that computes .*; Ctrl-C again ends at once$/);
  const again = setInterval(() => child.kill("SIGINT"), 150);
  const { code } = await child.ended();
  clearInterval(again);
  assert.equal(code, 130);
});

test(
  "what will not pass ends all workers with its exit code",
  { timeout: 120_000 },
  async ({ url, sql, use }) => {
    const folder = use(await scratch());
    await writeModules(folder.path, {
      "one.ts": printer("one"),
      "bad.ts": 'throw new TypeError("no such table");',
      "fails.ts": 'setTimeout(() => { throw new Error("too early"); }, 0);\n' +
        "await new Promise(() => {});\n" + printer("fails"),
    });
    const two = ["--workers", "2"];
    const one = join(folder.path, "one.ts");
    await refused(
      ["listen", join(folder.path, "bad.ts"), ...two],
      2,
      /bad\.ts cannot be imported: TypeError: no such table/,
      { url },
    );
    await refused(["listen", one, ...two, "--consumers", "on"], 2, /no consumer "on"/, { url });
    await refused(["listen", one, ...two], 3, /no connection/, { url: "postgres://127.0.0.1:1/x" });

    await using early = hark(["listen", join(folder.path, "fails.ts"), ...two], { url });
    const refusedEarly = await early.ended({ deadline: 40_000 });
    assert.equal(refusedEarly.code, 2, refusedEarly.stderr);
    assert.match(refusedEarly.stderr, /^hark: a module ended the worker .*: Error: too early/m);

    // Someone removes the schema while they serve.
    const child = use(hark(["listen", one, ...two], { url }));
    await sql("select hark.notify('orders', '1')");
    await child.line(/^one 1 /);
    await dropInUse(sql);
    const { code, stderr } = await child.ended({ deadline: 40_000 });
    assert.equal(code, 4, stderr);
    assert.match(
      stderr,
      /^hark: w[12]: (consumer "one" ended: )?the schema "hark" is not installed/m,
    );
    assert.doesNotMatch(stderr, /starts again in/);
  },
);

test("workers without the schema end with 4", { schema: false }, async ({ url, use }) => {
  const folder = use(await scratch());
  await writeModules(folder.path, { "one.ts": printer("one") });
  await refused(["listen", folder.path, "--workers", "2"], 4, /hark init/, { url });
});

test("a wrong number of workers is refused", { timeout: 120_000 }, async ({ url, use }) => {
  const folder = use(await scratch());
  await writeModules(folder.path, { "one.ts": printer("one") });
  for (const value of ["0", "65", "1.5", "two", ""]) {
    await refused(["listen", folder.path, `--workers=${value}`], 2, /whole number from 1 to 64/, {
      url,
      here: true,
    });
  }
  const drain = ["listen", folder.path, "--workers", "2", "--drain"];
  await refused(drain, 2, /--drain and --workers contradict each other/, { url, here: true });
  const list = ["listen", folder.path, "--workers", "2", "--list-consumers"];
  const { consumers } = await jsonOutput(list, { here: true });
  assert.deepEqual(consumers.map(({ id }: { id: string }) => id), ["one"]);
  assert.equal(
    await output(["listen", folder.path, "--workers", "1", "--drain"], { url }),
    "consumer  handled  failed\none             0       0\n",
  );
});

test("workers that a consumer has no partition for are reported", async ({ url, sql, use }) => {
  const folder = use(await scratch());
  await writeModules(folder.path, { "one.ts": printer("one") });
  const child = use(hark(["listen", folder.path, "--workers", "3"], { url }));
  await child.line(
    /warning hark\.cli: partitions of one: 1, workers: 3, of which 2 stand by\. To use them: hark con/,
  );
  // People know a worker by its host, its process and its thread.
  await until(async () => {
    const rows = await sql("select name from hark.crew order by right(name, 2)");
    return rows.length === 3 &&
      rows.every(({ name }, i) =>
        name.endsWith(`:${child.pid}/w${i + 1}`) && !name.startsWith(":")
      );
  });
  child.kill("SIGINT");
  assert.equal((await child.ended()).code, 0);
});

/** Each thread has a consumer of its own, so that both have work whichever is first. */
const burning = `import process from "node:process";
const burner = (name) => ({ id: "burn-" + name, channels: "orders",
  handle({ payload }) {
    const begun = performance.timeOrigin + performance.now();
    const cpu = process.cpuUsage();
    let x = 1;
    while (performance.timeOrigin + performance.now() < begun + 100) x = x * 31 % 1000003;
    const { user, system } = process.cpuUsage();
    const ended = performance.timeOrigin + performance.now();
    console.log(JSON.stringify({ begun, ended, first: cpu.user + cpu.system, last: user + system }));
  },
});
export default self.name === "" || self.name === undefined
  ? [burner("w1"), burner("w2")]
  : [burner(self.name)];
`;

test("two workers use two cores", { timeout: 120_000 }, async ({ url, sql, use }) => {
  if (navigator.hardwareConcurrency < 2) return;
  const folder = use(await scratch());
  await writeModules(folder.path, { "burning.ts": burning });
  /**
   * CPU time of the whole process by wall time, while both consumers handle all. Undefined if the one had handled
   * all before the other began, as the server may stand still for one of them.
   */
  const cores = async (workers: number, expected: number) => {
    const child = use(
      hark(["listen", folder.path, "--workers", String(workers)], { url: unnamed(url) }),
    );
    const names = workers === 1 ? "hark listen" : "hark listen w%";
    await until(async () => {
      const [ready] = await sql(
        `select count(distinct application_name)::int as n, (select count(*)::int from hark.consumers)
          as consumers from pg_stat_activity where datname = current_database()
          and application_name like $1::text and query like '%hark.%'`,
        [names],
      );
      return ready.n === workers && ready.consumers === 2;
    }, { deadline: 40_000 });
    await sql("select hark.notify('orders') from generate_series(1, 20)");
    await lines(child, /^\{/gm, expected);
    child.kill("SIGINT");
    const { stdout } = await child.ended();
    const all = stdout.match(/^\{.*$/gm)!.map((line) => JSON.parse(line));
    const wall = Math.max(...all.map((one) => one.ended)) -
      Math.min(...all.map((one) => one.begun));
    const cpu = Math.max(...all.map((one) => one.last)) - Math.min(...all.map((one) => one.first));
    // Handlers that do not wait for anything: two at a time are in two threads.
    const overlap = all.some((one) =>
      all.some((other) => one !== other && one.begun < other.begun && other.begun < one.ended)
    );
    if (workers === 1) assert(!overlap);
    return overlap || workers === 1 ? cpu / 1000 / wall : undefined;
  };
  const seen: [number | undefined, number | undefined][] = [];
  for (let i = 0; i < 3; i++) {
    const [one, two] = [await cores(1, 40), await cores(2, 40)];
    seen.push([one, two]);
    if (two! > 1.2 * one!) return;
  }
  assert(seen.some(([, two]) => two !== undefined), "handlers of two threads never ran at once");
  // Where one thread does not always have a core for itself, other programs may take the second one, too.
  if (seen.some(([one]) => one! < 0.8)) return;
  assert.fail(`cores used by one worker and by two: ${JSON.stringify(seen)}`);
});
