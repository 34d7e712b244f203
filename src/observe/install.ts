/**
 * Lets several observers listen at once, such as spans and metrics.
 *
 * @module
 */

import {
  type About,
  type Carried,
  type Handling,
  type Internal,
  type ObservedCall,
  type Observer,
  type Publishing,
  type Received,
  seam,
  type Sent,
} from "./seam.ts";
import type { Queryable } from "../database/queryable.ts";
import type { ObservedRun } from "./run.ts";

/** Lets an observer listen. Returns a function that ends that. */
export function install(observer: Observer): () => void {
  seam.observers.add(observer);
  compose();
  return () => {
    seam.observers.delete(observer);
    compose();
  };
}

function compose(): void {
  const [first, ...others] = seam.observers;
  seam.observer = others.length === 0 ? first : new Several([first!, ...others]);
}

/** Several observers as one: the first is the outermost. */
class Several implements Observer {
  readonly #all: readonly Observer[];

  constructor(all: readonly Observer[]) {
    this.#all = all;
  }

  carry(): Carried {
    return Object.assign({}, ...this.#all.map((one) => one.carry()));
  }

  publish(
    what: Publishing,
    send: (carried: Carried) => Promise<readonly Sent[]>,
  ): Promise<readonly Sent[]> {
    const through = this.#all.reduceRight(
      (inner, one) => (outer: Carried) =>
        one.publish(what, (carried) => inner({ ...outer, ...carried })),
      send,
    );
    return through({});
  }

  handle(what: Handling): ObservedCall {
    const calls = this.#all.map((one) => one.handle(what));
    return {
      run: (call) => calls.reduceRight((inner, one) => () => one.run(inner), call)(),
      outcome: (...told) => calls.forEach((one) => one.outcome(...told)),
      ended: (errors) => calls.forEach((one) => one.ended(errors)),
    };
  }

  received(what: Received): void {
    for (const one of this.#all) one.received(what);
  }

  settle<T>(run: ObservedRun, count: number, store: () => Promise<T>): Promise<T> {
    return this.#all.reduceRight((inner, one) => () => one.settle(run, count, inner), store)();
  }

  internal<T>(name: Internal, db: Queryable, about: About, work: () => Promise<T>): Promise<T> {
    return this.#all.reduceRight(
      (inner, one) => () => one.internal(name, db, about, inner),
      work,
    )();
  }

  count(metric: string, value: number, about: About): void {
    for (const one of this.#all) one.count(metric, value, about);
  }
}
