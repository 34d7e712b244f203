/**
 * A worker's rest between two turns of its loop.
 *
 * @module
 */

import { count } from "../../observe/seam.ts";
import type { Run } from "../state/context.ts";

/** Waits for something to do, and tells telemetry what ended the wait. */
export class Rest {
  readonly #run: Run;
  #heard = { notify: 0, control: 0 };

  constructor(run: Run) {
    this.#run = run;
  }

  /**
   * Waits until the worker is rung, or until the time is over.
   *
   * @param seen The count of the bell `wake` that the worker has acted on.
   */
  async until(seen: number, milliseconds: number): Promise<void> {
    const { wake, bell, control } = this.#run;
    const isRung = await wake.wait(seen, milliseconds);
    const { notify, control: asked } = this.#heard;
    this.#heard = { notify: bell.count, control: control.count };
    const cause = bell.count !== notify
      ? "notify"
      : control.count !== asked
      ? "control"
      : isRung
      ? "work"
      : "timer";
    count("hark.wakeups", 1, { "hark.cause": cause });
  }
}
