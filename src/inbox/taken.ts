/**
 * What messages became.
 *
 * @module
 */

/** What the messages of a stream became that an inbox has taken. */
export interface Taken {
  /** How many messages were taken. */
  readonly messages: number;
  /** How many notifications were published. */
  readonly published: number;
  /** How many messages were left out because a relay of this same install has published them. */
  readonly own: number;
  /** How many messages were left out because `map` made nothing of them. */
  readonly unmapped: number;
  /** How many notifications were left out as repeats, by `dedupe`. */
  readonly repeated: number;
  /** How many messages became dead letters. */
  readonly dead: number;
}

/** Nothing was taken. */
export const nothingTaken: Taken = {
  messages: 0,
  published: 0,
  own: 0,
  unmapped: 0,
  repeated: 0,
  dead: 0,
};

/** All that two have. */
export function together(one: Taken, other: Taken): Taken {
  return {
    messages: one.messages + other.messages,
    published: one.published + other.published,
    own: one.own + other.own,
    unmapped: one.unmapped + other.unmapped,
    repeated: one.repeated + other.repeated,
    dead: one.dead + other.dead,
  };
}
