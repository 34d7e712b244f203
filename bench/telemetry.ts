/**
 * What telemetry costs: publishing one notification a transaction on one connection, and replaying
 * them with a handler that reads the payload. Telemetry is off, measures for /metrics, or exports spans and
 * metrics to a collector of this bench by OTLP. No commit waits for the disk. Each pass is a process of its own. The CPU time of that
 * process says more than the time does, if the machine does other work beside it.
 *
 *     deno task bench telemetry [--count 20000] [--repeats 5] [--before FOLDER] [--json]
 *
 * `--before` names a checkout from before telemetry was there, to compare with.
 * Works in a database of its own, which it drops.
 *
 * @module
 */

import { join, resolve } from "node:path";
import { fromFileUrl } from "../tests/harness/files.ts";
import { alternate, flags, median, round } from "./flags.ts";
import { ownDatabase } from "./own.ts";
import { print } from "./table.ts";
import type { Pass, Times } from "./telemetry/pass.ts";

const given = flags({ count: "20000", repeats: "5", before: "" });
const count = given.number("count");

await using own = await ownDatabase();
// Nothing waits for the disk, so that the shares are the highest there can be.
const { rows: [{ name }] } = await own.db.query("select current_database() as name");
await own.db.query(`alter database ${name} set synchronous_commit = off`);
let exported = 0;
await using collector = Deno.serve(
  { port: 0, hostname: "127.0.0.1", onListen: () => {} },
  async (request) => {
    exported += (await request.arrayBuffer()).byteLength;
    return new Response(null, { headers: { "content-type": "application/x-protobuf" } });
  },
);
const otel = {
  OTEL_DENO: "true",
  OTEL_DENO_CONSOLE: "ignore",
  OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${collector.addr.port}`,
};

const here = new URL("../mod.ts", import.meta.url).href;
let passes = 0;

async function measure(
  telemetry: Pass["telemetry"],
  env: Readonly<Record<string, string>> = {},
  hark = here,
): Promise<Times> {
  const pass: Pass = { url: own.url, hark, telemetry, count, name: `bench-${++passes}` };
  const { code, stdout, stderr } = await new Deno.Command("deno", {
    args: [
      "run",
      "--no-prompt",
      "--quiet",
      "--lock=dev.lock",
      "-P=measure",
      fromFileUrl(new URL("./telemetry/pass.ts", import.meta.url)),
      JSON.stringify(pass),
    ],
    env: { ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  const text = new TextDecoder();
  if (code !== 0) throw new Error(`a pass failed: ${text.decode(stderr)}`);
  await own.db.query("truncate hark.log");
  await own.db.query("select hark.remove_consumer($1)", [pass.name]);
  return JSON.parse(text.decode(stdout));
}

const off = "off";
const variants: [string, () => Promise<Times>][] = [
  [off, () => measure("off")],
  ["/metrics", () => measure("monitor")],
  ["telemetry() without OpenTelemetry", () => measure("otel")],
  ["telemetry() with OTEL_DENO", () => measure("otel", otel)],
];
const before = given.text("before");
if (before !== "") {
  const url = new URL(`file://${join(resolve(before), "mod.ts")}`).href;
  variants.unshift(["before telemetry was there", () => measure("off", {}, url)]);
}
for (const [, run] of variants) await run(); // compiles
const results = await alternate(given.repeats, variants);
const all = (name: string, field: keyof Times) => results.get(name)!.map((one) => one[field]);
// Other work on the machine adds to the CPU time of a pass, and takes nothing away.
const least = (name: string, field: keyof Times) => Math.min(...all(name, field));
const time = (name: string, field: keyof Times) => median(all(name, field));
const more = (of: typeof time, name: string, field: keyof Times) =>
  `${round((of(name, field) / of(off, field) - 1) * 100)} %`;
await print({
  title: "What telemetry costs, µs a notification",
  rows: [...results.keys()].map((name) => ({
    telemetry: name,
    publish: round(time(name, "publish")),
    more: more(time, name, "publish"),
    "CPU of publishing": round(least(name, "publishCpu")),
    "more CPU": more(least, name, "publishCpu"),
    replay: round(time(name, "replay"), 1),
    "more ": more(time, name, "replay"),
    "CPU of replaying": round(least(name, "replayCpu"), 1),
    "more CPU ": more(least, name, "replayCpu"),
  })),
  notes: [
    `${count} notifications, one process each. Times: medians of ${given.repeats} in turns. CPU ` +
    `time of the process: the least. ` +
    `${round(exported / 2 ** 20, 1)} MiB were exported.`,
  ],
}, given);
