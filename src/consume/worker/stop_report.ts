/**
 * Says which handlers a stop waits for.
 *
 * @module
 */

import { getLogger } from "../../log/logger.ts";
import type { Dispatcher } from "../dispatch/dispatcher.ts";
import type { State } from "../state/state.ts";

// A category of its own, so that a program can show these records whatever else it logs.
const logger = getLogger(["hark", "consumer", "stop"]);

/** How often it is said, in milliseconds. */
const interval = 3000;
/** How many notifications are named. */
const named = 3;

/** What one worker says while it stops: at once, and again every few seconds. */
export class StopReport {
  readonly #state: State;
  readonly #dispatcher: Dispatcher;
  #begun: number | undefined;
  /** When the next report is due, by `performance.now()`. */
  due = -Infinity;

  constructor(state: State, dispatcher: Dispatcher) {
    this.#state = state;
    this.#dispatcher = dispatcher;
  }

  /** Logs which handlers still run, if the next report is due. */
  tell(): void {
    const now = performance.now();
    if (now < this.due) return;
    this.due = now + interval;
    const { options: { identity: { consumer }, stopTimeout }, entries: { running } } = this.#state;
    const handlers = this.#dispatcher.calls;
    const notifications = [...running].slice(0, named).map(({ row, id }) =>
      row === undefined ? `#${id}` : `${row.channel} #${id}`
    );
    if (running.size > named) notifications.push(`${running.size - named} more`);
    const facts = {
      consumer,
      handlers,
      what: `${handlers} handler${handlers === 1 ? "" : "s"} (${notifications.join(", ")})`,
    };
    if (this.#begun === undefined) {
      this.#begun = now;
      logger.info("{consumer}: waiting for {what}", facts);
    } else {
      logger.warn("{consumer}: still waiting for {what}, for at most {left} ms more", {
        ...facts,
        left: Math.max(0, Math.round(this.#begun + stopTimeout - now)),
      });
    }
  }
}
