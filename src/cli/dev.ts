/**
 * `hark dev`: a database to develop with.
 *
 * @module
 */

import { answer, localCommand } from "./args/command.ts";
import { exitCodes } from "./exit_codes.ts";
import { json, logging, maybe, number } from "./args/options.ts";
import type { OwnServer } from "./server.ts";

/** `hark dev`. */
export const dev = localCommand({
  name: "dev",
  brief: "Run a database to develop with.",
  description:
    "Starts PostgreSQL in .hark/ or joins the one that runs there, installs the schema, prints " +
    "the URL and runs until Ctrl-C. Other hark commands in this folder find it by themselves.",
  examples: [
    ["hark dev", "until Ctrl-C"],
    ["hark dev --port 5433", "on a port of your choice"],
  ],
  options: {
    port: maybe(
      "--port",
      number("PORT", { least: 1, most: 65_535 }),
      "The port. Default: the one of the last time, or else a free one.",
    ),
    ...logging,
    json,
  },
  async run({ json, port, ...logs }) {
    const { configureLogs } = await import("./print/log_lines.ts");
    const { leftRunning, ownCommand, ownServer } = await import("./server.ts");
    const { connect } = await import("../database/database.ts");
    const { migrate } = await import("../schema/migrate.ts");
    const { stopping } = await import("./process/signals.ts");
    await configureLogs(logs);
    let inUse: OwnServer | undefined = undefined;
    using stop = stopping(() => leftRunning(inUse));
    await using own = await ownServer("", port === undefined ? {} : { port });
    inUse = own;
    const { server: { url, port: at, version }, place } = own;
    {
      await using db = await connect(url, { applicationName: "hark dev" });
      await migrate(db);
    }
    const text = [
      `PostgreSQL ${version} runs: ${url}`,
      "In other terminals:",
      ...["listen", `notify orders '{"id":42}'`, "tail", "status"].map((command) =>
        `  ${ownCommand(command)}`
      ),
      `  psql '${url}'`,
      `Ctrl-C ends it, unless other processes use it; the data stays in ${place}.`,
    ].join("\n");
    await answer({ json: { url, port: at, version }, text }, json);
    await stop.asked;
    return exitCodes.ok;
  },
});
