/**
 * Why something waits, in sentences, each with the act that helps.
 *
 * @module
 */

import { type ConsumerStatus, hasWork } from "../operate/consumer_status.ts";
import type { ConsumerVerdict } from "../operate/notification.ts";
import type { Wait } from "../operate/waits_behind.ts";
import { htm, type Html, type Part } from "./html.ts";
import { toNotification } from "./links.ts";
import { command, countText, link, name, numberText, seconds, when } from "./parts.ts";
import { act, button, type View } from "./view.ts";

/** A reason, and what can be done. */
export interface Reason {
  readonly said: Part;
  readonly help?: Part;
}

/** A list of reasons; a sentence if there is none. */
export function reasonList(reasons: readonly Reason[], none: string): Html {
  if (reasons.length === 0) return htm`<p class="why">${none}</p>`;
  return htm`<ul class="why">${
    reasons.map(({ said, help }) =>
      htm`<li><p>${said}</p><div class="acts">${help ?? ""}</div></li>`
    )
  }</ul>`;
}

/** What a consumer waits for. */
export function ofConsumer(view: View, one: ConsumerStatus): Reason[] {
  const { consumer, pausedAt, serving, halted, failing, newer, unread, waiting } = one;
  const reasons: Reason[] = [];
  if (pausedAt !== null) {
    reasons.push({
      said: htm`It was paused ${when(pausedAt)}. Its workers start nothing new.`,
      help: act(view, "resume", { consumer }, button("Resume", "primary")),
    });
  }
  if (one.asleep !== null && !serving) {
    reasons.push({
      said: htm`Its worker sleeps, and wakes ${when(one.asleep.wakesAt)} at the latest. ${
        one.asleep.listening ? "What is published wakes it." : "Only a request wakes it."
      }`,
      help: one.asleep.listening ? "" : command("hark wake --to URL"),
    });
  } else if (!serving) {
    reasons.push({
      said: htm`No worker serves it${
        !hasWork(one)
          ? "; nothing waits for one."
          : `: ${numberText(unread)}${one.unreadCapped ? " or more" : ""} unread and ${
            numberText(waiting)
          } waiting.`
      }${one.owner === null ? "" : htm` The last one was ${name(one.worker ?? one.owner)}.`}`,
      help: command("hark listen consumers/"),
    });
  }
  for (const { partition, reason, id, attempts, error } of halted) {
    reasons.push({
      said: htm`Partition ${partition} reads no further: ${toNotification(view, id)} ${
        reason === "full" ? "is the first of too many that wait" : "holds it up"
      }, after ${countText(attempts, "attempt")}. <span class="error-text">${error}</span>`,
      help: tryOrDiscard(view, consumer, id),
    });
  }
  if (newer !== null) {
    reasons.push({
      said: htm`${
        countText(newer.count, "notification")
      } wait for a newer program: ${newer.reason}. The first is ${toNotification(view, newer.id)}.`,
    });
  }
  if (failing !== null && !halted.some(({ id }) => id === failing.id)) {
    reasons.push({
      said: htm`${toNotification(view, failing.id, `Notification ${failing.id}`)} has failed ${
        countText(failing.attempts, "time")
      }${
        failing.count > 1 ? `, and ${numberText(failing.count - 1)} more fail` : ""
      }. It is tried again ${
        serving ? when(failing.nextAttemptAt) : "when a worker runs"
      }. <span class="error-text">${failing.error}</span>`,
      help: tryOrDiscard(view, consumer, failing.id),
    });
  }
  return [...reasons, ...ofWorkers(view, one)];
}

function ofWorkers(view: View, one: ConsumerStatus): Reason[] {
  const reasons: Reason[] = [];
  if (one.nextPartitions !== null) {
    reasons.push({
      said: `It changes to ${
        countText(one.nextPartitions, "partition")
      }. Its workers first read to a common point.`,
    });
  }
  if (one.serving && one.served < one.partitions) {
    reasons.push({
      said: `${one.partitions - one.served} of ${one.partitions} partitions have no worker now.`,
    });
  }
  if (one.standingBy > 0) {
    reasons.push({
      said: `${countText(one.standingBy, "worker")} stand by: all partitions have an owner.`,
    });
  }
  for (
    const { worker } of view.look.facts.polling.filter(({ consumer }) => consumer === one.consumer)
  ) {
    reasons.push({ said: htm`Worker ${name(worker)} is not woken, and only polls.` });
  }
  const { caughtUpIn, lagPerSecond } = view.history.trend(one.consumer);
  if (one.serving && one.lagSeconds > 2) {
    reasons.push({
      said: `It is ${seconds(one.lagSeconds)} behind${
        caughtUpIn !== undefined
          ? `, and caught up in ${seconds(caughtUpIn)} if it goes on like this.`
          : lagPerSecond > 0.1
          ? ", and falls further behind. More workers or more concurrency would help."
          : "."
      }`,
    });
  }
  const open = view.look.facts.sessions.find(({ age }) => age > 60_000);
  if (open !== undefined && one.lagSeconds > 2) {
    reasons.push({
      said: `Session ${open.id} (${open.owner}) has had a transaction open for ${
        seconds(open.age / 1000)
      }, which slows reading.`,
      help: command(`select pg_terminate_backend(${open.id})`),
    });
  }
  return reasons;
}

/** Buttons for a notification that fails. */
export function tryOrDiscard(view: View, consumer: string, id: number): Html {
  return htm`${act(view, "retry", { consumer, id }, button("Try now"))} ${
    view.mayAct
      ? link(view.to("/sure"), { act: "discard", consumer, id }, "Discard…", "button danger")
      : ""
  }`;
}

/** What a notification waits for at one consumer. */
export function ofVerdict(
  view: View,
  id: number,
  one: ConsumerVerdict,
  wait: Wait | undefined,
): Reason[] {
  const { consumer, verdict, state, hasWorker, isPaused, nextAttemptAt } = one;
  const status = view.look.status.consumers.find((other) => other.consumer === consumer);
  const reasons: Reason[] = [];
  if (verdict === "dead") {
    return [{
      said: "It was given up.",
      help: htm`${act(view, "retry", { consumer, id, kind: "dead" }, button("Try again"))} ${
        view.mayAct ? link(view.to("/anew"), { consumer, id }, "Edit…", "button") : ""
      }`,
    }];
  }
  if (verdict === "handled") {
    return [{
      said: "",
      help: act(view, "again", { consumer, id }, button("Handle it again")),
    }];
  }
  if (verdict !== "waiting" && verdict !== "unread") return [];
  if (isPaused) {
    reasons.push({
      said: "The consumer is paused.",
      help: act(view, "resume", { consumer }, button("Resume")),
    });
  }
  const holder = wait?.holder;
  if (holder !== null && holder !== undefined) {
    reasons.push({
      said: htm`${toNotification(view, holder.id, `Notification ${holder.id}`)} holds its key: it ${
        states[holder.state] ?? holder.state
      }, tried ${countText(holder.attempts, "time")}, next ${
        when(holder.dueAt)
      }. <span class="error-text">${holder.error}</span>`,
      help: tryOrDiscard(view, consumer, holder.id),
    });
  } else if (state === "failed" || state === "retry") {
    reasons.push({
      said: htm`It is tried ${
        hasWorker && nextAttemptAt !== null ? when(nextAttemptAt) : "when a worker runs"
      }.`,
      help: tryOrDiscard(view, consumer, id),
    });
  } else if (state !== null && states[state] !== undefined) {
    reasons.push({ said: `It ${states[state]}.` });
  }
  const held = status?.halted.find(({ partition }) => partition === wait?.partition);
  if (verdict === "unread" && held !== undefined) {
    reasons.push({
      said: htm`Partition ${held.partition} reads no further: ${
        toNotification(view, held.id)
      } holds it up.`,
      help: tryOrDiscard(view, consumer, held.id),
    });
  }
  if (!hasWorker) {
    reasons.push({
      said: "No worker serves the consumer.",
      help: command("hark listen consumers/"),
    });
  } else if (wait !== undefined) {
    reasons.push({
      said: wait.worker === null
        ? `No worker owns its partition, ${wait.partition}.`
        : htm`Its partition, ${wait.partition}, is ${
          wait.alive ? "served by" : "still leased to"
        } ${name(wait.worker)}${
          wait.alive || wait.leaseUntil === null
            ? ""
            : htm`, which has ended; its lease ends ${when(wait.leaseUntil)}`
        }.`,
    });
  }
  if (verdict === "unread" && reasons.length < 2 && status !== undefined && status.lagSeconds > 2) {
    reasons.push({
      said: `The consumer is ${seconds(status.lagSeconds)} behind; it comes in its turn.`,
    });
  }
  return reasons;
}

const states: Readonly<Record<string, string>> = {
  failed: "has failed",
  newer: "needs a worker of a newer program",
  behind: "waits behind another of its key",
  running: "runs for long",
  replay: "will be handled once more",
  retry: "is retried from the dead letters",
};
