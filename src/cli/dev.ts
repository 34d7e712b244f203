/**
 * `hark dev`: a database to develop with.
 *
 * @module
 */

import { object } from "@optique/core/constructs";
import { describedCommand, given } from "./command.ts";
import { json, logging, maybe, number } from "./options.ts";
import { print, printJson } from "./output.ts";
import type { OwnServer } from "./server.ts";

/** `hark dev`. */
export const dev = describedCommand(
  {
    name: "dev",
    brief: "Run a database to develop with.",
    description:
      "Starts PostgreSQL in .hark/ or joins the one that runs there, installs the schema, prints " +
      "the URL and runs until Ctrl-C. Other hark commands in this folder find it by themselves.",
    examples: [
      ["hark dev", "until Ctrl-C"],
      ["hark dev --port 5433", "on a port of your choice"],
    ],
  },
  object({
    port: maybe(
      "--port",
      number("PORT", { least: 1, most: 65_535 }),
      "The port. Default: the one of the last time, or else a free one.",
    ),
    ...logging,
    json,
  }),
  async (o) => {
    const { configureLogs } = await import("./log.ts");
    const { leftRunning, ownCommand, ownServer } = await import("./server.ts");
    const { connect } = await import("../database/database.ts");
    const { migrate } = await import("../schema/migrate.ts");
    const { stopping } = await import("./signals.ts");
    await configureLogs(o);
    let inUse: OwnServer | undefined = undefined;
    using stop = stopping(() => leftRunning(inUse));
    await using own = await ownServer("", given({ port: o.port }));
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
      await print(`Ctrl-C ends it, unless other processes use it; the data stays in ${place}.`);
    }
    await new Promise<void>((resolve) => {
      if (stop.signal.aborted) resolve();
      stop.signal.addEventListener("abort", () => resolve(), { once: true });
    });
    return 0;
  },
);
