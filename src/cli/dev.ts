/**
 * `hark dev`: a database to develop with.
 *
 * @module
 */

import { object } from "@optique/core/constructs";
import { map, optional } from "@optique/core/modifiers";
import type { InferValue, Parser } from "@optique/core/parser";
import { command, option } from "@optique/core/primitives";
import { examplesFooter, ownCommand, plainText } from "./help.ts";
import { type Action, json, logging, number } from "./options.ts";
import { print, printJson } from "./output.ts";
import type { OwnServer } from "./server.ts";

const options = object({
  port: optional(option("--port", number("PORT", { least: 1, most: 65_535 }), {
    description: plainText("Default: that of the last time, else a free one."),
  })),
  ...logging,
  json,
});

/** `hark dev`. */
export const dev: Parser<"sync", Action, unknown> = command(
  "dev",
  map(options, (o) => () => run(o)),
  {
    brief: plainText("Run a database to develop with."),
    description: plainText(
      "Starts PostgreSQL in .hark/, or joins the one that runs there, installs the schema, prints " +
        "the URL and runs until Ctrl-C. Other hark commands in this folder find it by themselves.",
    ),
    footer: examplesFooter(
      ["hark dev", "until Ctrl-C"],
      ["hark dev --port 5433", "on a port of your choice"],
    ),
  },
);

async function run(o: InferValue<typeof options>): Promise<number> {
  const { configureLogs } = await import("./log.ts");
  const { leftRunning, ownServer } = await import("./server.ts");
  const { connect } = await import("../database/database.ts");
  const { migrate } = await import("../schema/migrate.ts");
  const { stopping } = await import("./signals.ts");
  await configureLogs(o);
  let inUse: OwnServer | undefined = undefined;
  using stop = stopping(() => leftRunning(inUse));
  await using own = await ownServer("", o.port === undefined ? {} : { port: o.port });
  inUse = own;
  const { server, place } = own;
  {
    await using db = await connect(server.url, { applicationName: "hark dev" });
    await migrate(db);
  }
  if (o.json) {
    const { url, port, version } = server;
    await printJson({ url, port, version });
  } else {
    await print(`PostgreSQL ${server.version} runs: ${server.url}`);
    await print("In other terminals:");
    for (const command of ["listen", `notify orders '{"id":42}'`, "tail", "status"]) {
      await print(`  ${ownCommand(command)}`);
    }
    await print(`  psql '${server.url}'`);
    await print(`Ctrl-C ends it, unless others use it; the data stays in ${place}.`);
  }
  await new Promise<void>((resolve) => {
    if (stop.signal.aborted) resolve();
    stop.signal.addEventListener("abort", () => resolve(), { once: true });
  });
  return 0;
}
