/**
 * What a stream is, and whether a relay can rely on it.
 *
 * @module
 */

import {
  DiscardPolicy,
  type JetStreamManager,
  RetentionPolicy,
  StorageType,
  type StreamInfo,
} from "@nats-io/jetstream";
import { messageOf } from "../../database/translate.ts";
import { HarkError } from "../../errors.ts";
import { Lost } from "../sink.ts";

/** The shortest duplicate window that is relied on, in milliseconds. */
export const shortestWindow = 10_000;

/**
 * Asks for a stream.
 *
 * @param isStart Whether nothing was read or published yet. Later JetStream may be off for a moment: the
 *   server stops, and starts again.
 * @throws {HarkError} `DESTINATION` if there is none; `NO_PERMISSION`.
 * @throws {Lost} If no answer comes.
 */
export async function streamInfo(
  manager: JetStreamManager,
  name: string,
  connection: number,
  isStart = false,
): Promise<StreamInfo> {
  try {
    return await manager.streams.info(name);
  } catch (cause) {
    const { name: kind, code } = cause as { name?: string; code?: number };
    if (kind === "StreamNotFoundError" || code === 10059) {
      throw new HarkError("DESTINATION", `there is no stream "${name}"`, {
        cause,
        remedy: `Make it, such as: nats stream add ${name} --subjects '…' --storage file ` +
          "--replicas 3 --discard old --dupe-window 2m",
      });
    }
    const isOff = kind === "JetStreamNotEnabled" || code === 10039 || code === 10076;
    if (isOff && isStart) {
      throw new HarkError("DESTINATION", "JetStream is not enabled for this server or account", {
        cause,
        remedy: "Start nats-server with -js, or enable JetStream for the account.",
      });
    }
    const reason = messageOf(cause);
    if (/permission/i.test(reason)) throw noRight(`$JS.API.STREAM.INFO.${name}`, cause);
    throw new Lost(`the server did not say what stream "${name}" is: ${reason}`, connection, {
      cause,
    });
  }
}

/** The error for a right that the user of NATS lacks. */
export function noRight(subject: string, cause?: unknown): HarkError {
  return new HarkError("NO_PERMISSION", `the NATS user may not publish on ${subject}`, {
    cause,
    remedy: "Allow the user to publish on the relay's subjects, $JS.API.STREAM.INFO.STREAM, " +
      "$JS.API.CONSUMER.> of the stream, and to subscribe to its inbox.",
  });
}

/** Which incarnation of a stream it is: one that was deleted and made anew is another. */
export function targetOf({ config, created }: StreamInfo): string {
  return `the stream ${config.name} of ${created}`;
}

/**
 * Refuses a stream that a relay cannot rely on. Gives sentences about what may lose messages or hold
 * them up.
 *
 * @throws {HarkError} `DESTINATION`.
 */
export function checkStream({ config }: StreamInfo): string[] {
  const name = `stream "${config.name}"`;
  const refuse = (what: string, remedy: string): never => {
    throw new HarkError("DESTINATION", `${name} ${what}`, { remedy });
  };
  if (config.mirror !== undefined) {
    refuse("is a mirror, which takes no messages", "Give the stream that it mirrors.");
  }
  if (!(config.subjects?.length > 0)) {
    refuse(
      "has no subjects of its own, so it takes no messages",
      `Give it some: nats stream edit ${config.name} --subjects …`,
    );
  }
  if (config.sealed) refuse("is sealed and takes no messages", "Give another stream.");
  if (config.no_ack) {
    refuse(
      "does not acknowledge what it has stored (no_ack)",
      `Make it acknowledge: nats stream edit ${config.name} --ack`,
    );
  }
  const window = config.duplicate_window / 1e6;
  if (window < shortestWindow) {
    refuse(
      `has a duplicate window of ${window} ms`,
      `Give it at least ${
        shortestWindow / 1000
      } s, better 2 minutes: nats stream edit ${config.name} ` +
        "--dupe-window 2m",
    );
  }
  const warnings: string[] = [];
  if (config.storage === StorageType.Memory) {
    warnings.push(
      `${name} is in memory: a restart of the server loses what was relayed. Make a stream with file storage.`,
    );
  } else if (config.num_replicas < 2) {
    warnings.push(
      `${name} has one replica: the server acknowledges before the disk has it, so a power cut loses up to ` +
        'two minutes. Give it 3 replicas, or set "sync_interval: always" in the server\'s jetstream block.',
    );
  }
  if (config.retention === RetentionPolicy.Interest) {
    warnings.push(
      `${name} keeps a message only for consumers that are there (retention interest): without one it is lost. ` +
        "Use the retention limits.",
    );
  }
  if (config.retention !== RetentionPolicy.Limits) {
    warnings.push(
      `${name} removes what was read (retention ${config.retention}): after a crash the relay does not find it there, ` +
        `and publishes it again unless the duplicate window of ${window / 1000} s drops it.`,
    );
  }
  if (config.discard === DiscardPolicy.New && isLimited(config)) {
    warnings.push(
      `${name} refuses new messages when it is full (discard new): the relay then waits. Set --discard old, ` +
        "or see to it that it does not fill.",
    );
  }
  return warnings;
}

function isLimited({ max_msgs, max_bytes, max_msgs_per_subject }: StreamInfo["config"]): boolean {
  return max_msgs > 0 || max_bytes > 0 || max_msgs_per_subject > 0;
}
