/**
 * The durable consumer of a stream that an inbox reads with.
 *
 * @module
 */

import {
  type ConsumerConfig,
  type ConsumerInfo,
  DeliverPolicy,
  type JetStreamManager,
} from "@nats-io/jetstream";
import type { Place } from "./place.ts";

/**
 * Makes the consumer anew, to begin behind a place. So nothing of an earlier connection is under way.
 *
 * @param isQueue Whether the stream is a work queue. That has only what was not taken yet, and lets a
 *   consumer begin nowhere else.
 */
export async function startConsumer(
  manager: JetStreamManager,
  stream: string,
  config: Partial<ConsumerConfig> & { readonly durable_name: string },
  { sequence, time }: Place,
  isQueue: boolean,
): Promise<void> {
  const make = async (start: Partial<ConsumerConfig>): Promise<ConsumerInfo> => {
    await manager.consumers.delete(stream, config.durable_name).catch((error) => {
      if ((error as { code?: number }).code !== 10014) throw error; // there was none
    });
    return await manager.consumers.add(stream, { ...config, ...start });
  };
  if (isQueue || sequence === 0) {
    await make({ deliver_policy: DeliverPolicy.All });
    return;
  }
  if (time !== undefined) {
    // What the stream has stored later may be before the place, under numbers that it had lost. Otherwise the
    // number decides, as clocks of servers differ: a message behind the place may have an earlier time.
    const { delivered } = await make({
      deliver_policy: DeliverPolicy.StartTime,
      opt_start_time: new Date(time + 1).toISOString(),
    });
    if (delivered.stream_seq <= sequence) return;
  }
  await make({ deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: sequence + 1 });
}
