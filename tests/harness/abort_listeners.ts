/**
 * Counts listeners of signals: one that is never removed is held for as long as its signal.
 *
 * @module
 */

/** Counts until disposed of. */
export interface AbortListeners extends Disposable {
  /** How many were added, and neither removed nor called. */
  readonly left: number;
}

/** Counts the listeners that are added to signals from now on. */
export function abortListeners(): AbortListeners {
  const { addEventListener: add, removeEventListener: remove } = EventTarget.prototype;
  const left = new Map<AbortSignal, Set<unknown>>();
  EventTarget.prototype.addEventListener = function (type, listener, options) {
    if (this instanceof AbortSignal && listener !== null) {
      const all = left.get(this) ?? new Set();
      left.set(this, all.add(listener));
    }
    add.call(this, type, listener, options);
  };
  EventTarget.prototype.removeEventListener = function (type, listener, options) {
    if (this instanceof AbortSignal) left.get(this)?.delete(listener);
    remove.call(this, type, listener, options);
  };
  return {
    get left() {
      return left.entries().filter(([{ aborted }]) => !aborted)
        .reduce((sum, [, { size }]) => sum + size, 0);
    },
    [Symbol.dispose]() {
      EventTarget.prototype.addEventListener = add;
      EventTarget.prototype.removeEventListener = remove;
    },
  };
}
