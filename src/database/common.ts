/**
 * Questions that several readers ask in common.
 *
 * @module
 */

import { type OwnConnection, ownConnection, type Queryable } from "./queryable.ts";

interface Answers<T> {
  /** Of the question that is on its way. */
  sent: Promise<T> | undefined;
  /** Of the one that is sent after it. */
  next: Promise<T> | undefined;
}

/**
 * A question about the database, with one answer for all that share their connections. Those that ask
 * while one is on its way share the next one: the server may have begun with the one on its way.
 */
export class CommonQuestion<T> {
  readonly #ask: (session: Queryable) => Promise<T>;
  readonly #answers = new WeakMap<object, Answers<T>>();

  /** @param ask Asks it once. */
  constructor(ask: (session: Queryable) => Promise<T>) {
    this.#ask = ask;
  }

  /** Asks it for the owner of a connection. The server begins with it after this call. */
  async ask(session: Queryable): Promise<T> {
    const own = ownConnection(session);
    if (own?.sibling === undefined) return await this.#ask(session);
    // The reader that asks first may stop before the answer comes.
    const open = own.sibling.bind(own);
    const known = this.#answers.get(own.shared);
    const answers = known ?? { sent: undefined, next: undefined };
    if (known === undefined) this.#answers.set(own.shared, answers);
    if (answers.sent === undefined) return await this.#send(answers, open());
    answers.next ??= answers.sent.then(() => {}, () => {}).then(() => {
      answers.next = undefined;
      return this.#send(answers, open());
    });
    return await answers.next;
  }

  async #send(answers: Answers<T>, session: OwnConnection): Promise<T> {
    const sent = this.#ask(session);
    answers.sent = sent;
    try {
      return await sent;
    } finally {
      if (answers.sent === sent) answers.sent = undefined;
      await session.close();
    }
  }
}
