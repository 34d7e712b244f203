/**
 * `hark doctor`: what is wrong with a set-up, and how to mend it.
 *
 * @module
 */

import { ageBounds } from "../duration.ts";
import { databaseCommand } from "./args/command.ts";
import { exitCodes } from "./exit_codes.ts";
import { paint, visible } from "./print/style.ts";
import { maybeDuration } from "./args/values.ts";

const colours = { error: "red", warning: "yellow", note: "dim" } as const;

/** `hark doctor`. */
export const doctor = databaseCommand({
  name: "doctor",
  replica: "beside",
  brief: "Say what is wrong with a set-up, and how to mend it.",
  description:
    "Looks at the schema and at roles' rights, at the server's settings, clock, connections and NOTIFY " +
    "queue, for a pooler that keeps LISTEN from working, at transactions and replication slots that hold " +
    "things up, a replica that lags or cancels reads, consumers that no worker serves, delayed notifications and retention that no worker " +
    "applies, watches that have drifted, and the log's size. Changes nothing. If something is wrong, the " +
    "exit code is 1. Run it with the URL and the role of the workers.",
  examples: [
    ["hark doctor", "after setting up, and when something is odd"],
    ["hark doctor --json", "for a program"],
  ],
  options: {
    longTransaction: maybeDuration(
      "--long-transaction",
      "A transaction is open for too long after this. Default: 5m.",
      ageBounds,
    ),
  },
  async run(db, o) {
    const { doctor } = await import("../operate/doctor/doctor.ts");
    const found = await doctor(db, o);
    const wrong = found.filter(({ level }) => level !== "note");
    return {
      json: found,
      text: [
        ...found.map(({ level, code, problem, remedy }) =>
          `${paint(colours[level], `${level} (${code}):`)} ${visible(problem)}\n  ${
            visible(remedy)
          }`
        ),
        ...wrong.length === 0 ? ["nothing is wrong"] : [],
      ].join("\n"),
      code: wrong.length === 0 ? exitCodes.ok : exitCodes.failed,
    };
  },
});
