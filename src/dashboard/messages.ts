/**
 * What an act has done, for the page that comes after it.
 *
 * @module
 */

/** How many are remembered: each is shown once, moments later. */
const most = 100;

/** A sentence about an act. */
export interface Message {
  readonly tone: "good" | "bad";
  readonly text: string;
}

/** Sentences by random numbers, so that no address can put words on a page. */
export class Messages {
  readonly #kept = new Map<string, { readonly visitor: string; readonly message: Message }>();

  /** Keeps a sentence for a visitor. */
  keep(visitor: string, message: Message): string {
    const id = crypto.randomUUID();
    this.#kept.set(id, { visitor, message });
    for (const old of this.#kept.keys()) {
      if (this.#kept.size <= most) break;
      this.#kept.delete(old);
    }
    return id;
  }

  /** Gives it, once. */
  take(visitor: string, id: string): Message | undefined {
    const kept = this.#kept.get(id);
    if (kept?.visitor !== visitor) return undefined;
    this.#kept.delete(id);
    return kept.message;
  }
}
