/**
 * Chooses the consumers to run.
 *
 * @module
 */

import type { Queryable } from "../../database/queryable.ts";
import { noConsumer } from "../modules.ts";
import { findConsumers, type Found } from "./modules.ts";
import { sampleConsumer } from "./sample.ts";
import type { Work } from "./thread_messages.ts";

/**
 * Makes the consumers of the modules, or the sample without any, and picks those to run.
 *
 * @throws {HarkError} `NO_CONSUMER` if a module is missing or wrong, for an unknown id, and for a channel
 * that no consumer reads; `CONFLICT` if two consumers have the same id.
 */
export async function consumersOf(work: Work, db: Queryable): Promise<Found[]> {
  const { modules, overrides } = work;
  const found = modules.length === 0
    ? [sampleConsumer(db)]
    : await findConsumers(modules, db, overrides);
  return select(found, work);
}

/** Picks consumers by id and by channel. */
function select(
  found: readonly Found[],
  { consumers, excluded, removed, channels }: Work,
): Found[] {
  const known = found.map(({ id }) => id);
  for (const id of [...consumers ?? [], ...excluded ?? []]) {
    if (known.includes(id)) continue;
    throw noConsumer(`there is no consumer "${id}"`, `There are: ${known.join(", ")}.`);
  }
  const read = found.flatMap((one) => one.channels);
  for (const channel of channels ?? []) {
    if (read.includes(channel)) continue;
    throw noConsumer(
      `no consumer reads the channel "${channel}"`,
      `They read: ${[...new Set(read)].join(", ")}.`,
    );
  }
  const selected = found.filter((one) =>
    (consumers === undefined || consumers.includes(one.id)) && !excluded?.includes(one.id) &&
    !removed?.includes(one.id) &&
    (channels === undefined || one.channels.some((channel) => channels.includes(channel)))
  );
  if (selected.length === 0) {
    throw noConsumer("every consumer is excluded", `There are: ${known.join(", ")}.`);
  }
  return selected;
}
