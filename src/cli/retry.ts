/**
 * `hark retry` and `hark discard`: try again, or give up, what a consumer has failed on.
 *
 * @module
 */

import type { Whereabouts } from "../operate/retry.ts";
import { given } from "../given.ts";
import { databaseCommand, type Description } from "./args/command.ts";
import { filter } from "./dead.ts";
import { exitCodes } from "./exit_codes.ts";
import { consumer, contradiction, refuse, toggle } from "./args/options.ts";
import { complain, printProgress } from "./print/output.ts";
import { stopping } from "./process/signals.ts";
import { surroundings } from "./process/surroundings.ts";
import { countText, named, numberText, shellWord } from "./print/text.ts";

type How = "retry" | "discard";

function change(how: How, description: Omit<Description, "name">) {
  return databaseCommand({
    name: how,
    ...description,
    options: {
      consumer,
      ...filter,
      waiting: toggle("--waiting", "Only those that wait for their next attempt."),
      dead: toggle("--dead", "Only dead letters."),
      all: toggle("--all", "All that wait, and all dead letters."),
    },
    check({ consumer: _, waiting, dead, all, ...chosen }) {
      if (waiting && dead) contradiction("--waiting", "--dead");
      if (waiting && chosen.diedAfter !== undefined) contradiction("--waiting", "--after");
      if (waiting && chosen.diedBefore !== undefined) contradiction("--waiting", "--before");
      const filtered = Object.keys(chosen).length > 0;
      if (filtered !== all) return;
      const remedy = `Give ids, a filter such as --error, or --all: hark ${how} --help`;
      if (filtered) contradiction("--all", "a filter", remedy);
      refuse(`hark ${how} does not know which notifications you mean`, remedy);
    },
    async run(db, { consumer, waiting, dead, all, ...chosen }, json) {
      const { discard, hasWorker, retry, whereabouts } = await import("../operate/retry.ts");
      const kind = waiting ? "waiting" as const : dead ? "dead" as const : undefined;
      const which = { ...(all ? { all: true as const } : chosen), ...given({ kind }) };
      const ids = [...new Set(chosen.ids)];
      // Before: what is discarded is nowhere afterwards.
      const places = ids.length === 0 ? [] : await whereabouts(db, consumer, ids);
      using stop = stopping();
      const shows = surroundings().stderr.isTerminal() && !json;
      const verb = how === "retry" ? "retried" : "discarded";
      let shown = false;
      const count = await (how === "retry" ? retry : discard)(db, consumer, which, {
        signal: stop.signal,
        onProgress: async (count) => {
          // What is done in one transaction needs no progress.
          if (!shows || count < 5000) return;
          shown = true;
          await printProgress(`${verb} ${numberText(count)} so far`);
        },
      }).finally(async () => {
        if (shown) await printProgress("");
      });
      const complete = !stop.signal.aborted;
      const left = [...places].filter(([, place]) =>
        place !== "waiting" && place !== "dead" || kind !== undefined && place !== kind
      );
      for (const [id, place] of left) {
        await complain(sentence(how, consumer, id, place));
      }
      return {
        json: {
          consumer,
          [verb]: count,
          ...(complete ? {} : { complete }),
          ...(left.length === 0 ? {} : { left: left.map(([id, place]) => ({ id, place })) }),
        },
        text: !complete
          ? `${verb} ${countText(count, "notification")} of ${
            named(consumer)
          }. It was interrupted. Run it again to go on`
          : count === 0 && left.length > 0
          ? ""
          : count === 0
          ? `nothing of ${named(consumer)} waits or is dead as asked`
          : `${countText(count, "notification")} of ${named(consumer)} ${
            how === "discard"
              ? `${count === 1 ? "is" : "are"} given up`
              : await hasWorker(db, consumer)
              ? "will be tried at once"
              : "will be tried as soon as a worker runs: none does now"
          }`,
        code: left.length === 0 ? exitCodes.ok : exitCodes.failed,
      };
    },
  });
}

/** Why a notification was left as it is, and what to do. */
function sentence(how: How, consumer: string, id: number, place: Whereabouts): string {
  const again = `hark replay ${shellWord(consumer)} --from ${id} --to ${id}`;
  const reasons: Record<Whereabouts, string> = {
    waiting: `waits for its next attempt. Leave out --dead: hark ${how} ${
      shellWord(consumer)
    } ${id}`,
    dead: `is a dead letter. Leave out --waiting: hark ${how} ${shellWord(consumer)} ${id}`,
    handled: how === "retry"
      ? `is handled. To handle it once more: ${again}`
      : "is handled already",
    unread: "is not handled yet, and comes in its turn. See hark status",
    foreign: "is not of its channels, or does not match its filter",
    absent: "is not in the log, and was not given up",
  };
  return `notification ${id} of ${named(consumer)} ${reasons[place]}`;
}

/** `hark retry`. */
export const retry = change("retry", {
  brief: "Try at once what a consumer has failed on.",
  description:
    "Notifications that wait for their next attempt are tried at once, after a fix is deployed, for " +
    "example. Dead letters start with their first attempt. The order within a key stays: what is " +
    "behind a failed notification of its key comes after it. If a notification that is named neither " +
    "waits nor is a dead letter, the exit code is 1.",
  examples: [
    ["hark retry billing --all", "all that it has failed on"],
    ["hark retry billing 42 43", "these two"],
    ["hark retry billing --error timeout", "those with this text in the error"],
    ["hark retry billing --all --waiting", "without dead letters"],
  ],
});

/** `hark discard`. */
export const discard = change("discard", {
  brief: "Give up for good what a consumer has failed on.",
  description:
    "Removes notifications that wait for their next attempt, and dead letters. What is behind a " +
    "discarded notification of its key goes on. A handler that runs goes on to its end.",
  examples: [
    ["hark discard billing 42", "one that can never succeed"],
    ["hark discard billing --all --dead", "all dead letters"],
    ["hark discard billing --before 2026-01-01", "old dead letters"],
  ],
});
