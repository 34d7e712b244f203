/**
 * A stream of NATS JetStream as the target of a relay.
 *
 * @module
 */

import { headers as makeHeaders, type MsgHdrs } from "@nats-io/nats-core";
import type { StreamInfo } from "@nats-io/jetstream";
import { DeadLetter } from "../../consume/retry.ts";
import { messageOf } from "../../database/translate.ts";
import { HarkError } from "../../errors.ts";
import { pause } from "../delivery.ts";
import { formattedAs, type MessageFormat } from "../format.ts";
import { atMost, claimOf, headersOf, nameOf, sizeOf } from "../message.ts";
import {
  Busy,
  type Look,
  Lost,
  type OpenSink,
  type Receipt,
  type RelayMessage,
  type SinkSetting,
} from "../sink.ts";
import { mayTake, type SubjectFunction, type SubjectRules, takes, templateOf } from "../subject.ts";
import { idsBehind } from "./read_back.ts";
import { Line } from "./line.ts";
import { namesOf, type NatsOptions } from "./nats_options.ts";
import { checkStream, streamInfo, targetOf } from "./stream.ts";

/** The first and the longest wait between attempts to connect, in milliseconds. */
const waits = [100, 5_000] as const;
/** The most bytes of a subject. The server ends a connection on which a line has more than 4,096. */
const longestSubject = 3_500;
const encoder = new TextEncoder();

/** The options of `jetStream()`, checked and complete. */
export interface JetStreamSetting {
  readonly server: NatsOptions;
  readonly stream: string;
  readonly subject: SubjectFunction;
  /** What it was made of. */
  readonly rules: SubjectRules;
  readonly oversized: "dead" | "claim";
  readonly format: MessageFormat;
}

/** A message as it is sent. */
interface Packed {
  readonly subject: string;
  readonly headers: readonly (readonly [string, string])[];
  readonly body: Uint8Array;
}

/** A stream while a relay publishes to it. */
export class OpenJetStream implements OpenSink {
  readonly #setting: JetStreamSetting;
  readonly #relay: SinkSetting;
  #line: Line;
  #info: StreamInfo;
  /** What was found after each connection that was lost, by its number. */
  readonly #recovered = new Map<number, Promise<ReadonlySet<string>>>();
  /** How many connections in a row were lost before anything was acknowledged on them. */
  #barren = 0;
  readonly target: string;
  readonly warnings: readonly string[];

  private constructor(setting: JetStreamSetting, relay: SinkSetting, line: Line, info: StreamInfo) {
    this.#setting = setting;
    this.#relay = relay;
    this.#line = line;
    this.#info = info;
    this.target = targetOf(info);
    this.warnings = checkStream(info);
    line.end = info.state.last_seq;
  }

  /** Connects and looks at the stream. */
  static async open(setting: JetStreamSetting, relay: SinkSetting): Promise<OpenJetStream> {
    const { server, stream } = setting;
    const line = await Line.open(server, `hark relay ${relay.relay}`, 1, 0);
    try {
      const info = await streamInfo(line.manager, stream, line.number, true);
      return new OpenJetStream(setting, relay, line, info);
    } catch (error) {
      await line[Symbol.asyncDispose]();
      if (!(error instanceof Lost)) throw error;
      throw new HarkError("UNREACHABLE", `${namesOf(server)}: ${error.message}`, {
        cause: error,
        remedy:
          `Check that JetStream runs, and that the user may publish on $JS.API.STREAM.INFO.${stream}.`,
      });
    }
  }

  get end(): number {
    return this.#line.end;
  }

  /**
   * What ids of messages end with. A stream drops what has the id of another message: each relay to it
   * publishes messages of its own.
   */
  get #suffix(): string {
    return `:${encodeURIComponent(this.#relay.relay)}`;
  }

  /** The ids of this relay's messages, as they were given. */
  #given(ids: ReadonlySet<string>): ReadonlySet<string> {
    const suffix = this.#suffix;
    const own = [...ids].filter((id) => id.endsWith(suffix));
    return new Set(own.map((id) => id.slice(0, -suffix.length)));
  }

  /** Packs a message. @throws If it cannot be published. */
  pack(given: RelayMessage): Packed {
    const message = { ...given, id: given.id + this.#suffix };
    const { stream, subject: subjectOf, oversized, format } = this.#setting;
    const { notification } = message;
    const subject = subjectOf(notification);
    const { max_msg_size } = this.#info.config;
    if (!this.#subjects.some((pattern) => takes(pattern, subject))) {
      throw this.#notTaken(`${subject} of ${nameOf(notification)}`);
    }
    const length = encoder.encode(subject).length;
    if (length > longestSubject) {
      throw new DeadLetter(
        `the subject of ${
          nameOf(notification)
        } has ${length} bytes, and NATS takes ${longestSubject}: ` +
          "change the option subject, or the key or header that it is made of",
      );
    }
    const formatted = formattedAs(format, message);
    const expected = ["Nats-Expected-Stream", stream] as const;
    const headers = [...formatted.headers, expected];
    const body = encoder.encode(formatted.body);
    const most = Math.min(this.#line.maxPayload, max_msg_size > 0 ? max_msg_size : Infinity);
    const fits = (size: number, its = headers) => size + sizeOf(its) <= most;
    if (body.length + atMost(headers) < most || fits(body.length)) {
      return { subject, headers, body };
    }
    if (oversized === "claim") {
      const claim = encoder.encode(claimOf(message, body.length));
      // A claim is no event, so it has Hark's own headers in each format.
      const its = [...headersOf(message), expected, ["Hark-Claim", "true"] as const];
      if (fits(claim.length, its)) return { subject, headers: its, body: claim };
    }
    throw new DeadLetter(
      `too large for the stream: ${body.length} bytes and ${
        sizeOf(headers)
      } of headers, and it takes ${most}. ` +
        `Set oversized: "claim", or raise max_payload of the server (${nameOf(notification)})`,
    );
  }

  get #subjects(): readonly string[] {
    return this.#info.config.subjects ?? [];
  }

  #notTaken(what: string): HarkError {
    const { stream } = this.#setting;
    return new HarkError("DESTINATION", `stream "${stream}" does not take the subject ${what}`, {
      remedy: `It takes ${this.#subjects.join(", ")}. Change the option subject, or add the ` +
        `subject: nats stream edit ${stream} --subjects …`,
    });
  }

  requireChannel(channel: string): void {
    const template = templateOf(this.#setting.rules, channel);
    if (template === undefined) return; // a function tells it of each notification
    if (this.#subjects.some((pattern) => mayTake(pattern, template))) return;
    throw this.#notTaken(`${template} of channel "${channel}"`);
  }

  describe(message: RelayMessage): string {
    const { subject, body } = this.pack(message);
    return `${subject} of stream ${this.#setting.stream}, ${body.length} bytes`;
  }

  publish(message: RelayMessage): Promise<Receipt> {
    let packed: Packed;
    try {
      packed = this.pack(message);
    } catch (error) {
      return this.#lookAgain(error);
    }
    const headers = makeHeaders();
    for (const [name, value] of packed.headers) headers.append(name, value);
    return this.#checked(packed, headers);
  }

  async #checked({ subject, body }: Packed, headers: MsgHdrs): Promise<Receipt> {
    try {
      return await this.#line.publish(subject, body, headers);
    } catch (error) {
      if (error instanceof Busy) await this.#look();
      throw error;
    }
  }

  /** The stream may have other subjects or limits by now. */
  async #lookAgain(error: unknown): Promise<never> {
    await this.#look();
    throw error;
  }

  /** Looks at the stream anew. */
  async #look(): Promise<void> {
    const line = this.#line;
    if (!line.isLost) this.#info = await this.#same(line);
  }

  /**
   * Asks for the stream.
   *
   * @throws {HarkError} `DESTINATION` if it is another one than before.
   */
  async #same(line: Line): Promise<StreamInfo> {
    const info = await streamInfo(line.manager, this.#setting.stream, line.number);
    if (targetOf(info) === this.target) return info;
    throw new HarkError(
      "DESTINATION",
      `${this.target} was deleted, and ${targetOf(info)} is in its place`,
      { remedy: "Start the relay again. To publish older notifications once more, use hark seek." },
    );
  }

  async publishedBehind(place: number): Promise<Look> {
    const { stream, server: { domain } } = this.#setting;
    const { ids, end } = await idsBehind(this.#line, stream, place, { domain });
    return { ids: this.#given(ids), end };
  }

  recover({ connection, message }: Lost): Promise<ReadonlySet<string>> {
    let ids = this.#recovered.get(connection);
    if (ids === undefined) {
      // Such as a question without an answer: what is under way is in doubt with it.
      this.#line.lose(message);
      this.#relay.trouble(message);
      ids = this.#reconnect(this.#line);
      this.#recovered.set(connection, ids);
      this.#recovered.delete(connection - 20); // no batch is that old
    }
    return ids;
  }

  async #reconnect(old: Line): Promise<ReadonlySet<string>> {
    const { server, stream } = this.#setting;
    const { relay, signal, trouble } = this.#relay;
    this.#barren = old.hasAnswered ? 0 : this.#barren + 1;
    // Else a server that ends each connection would be asked for the next one at once.
    if (this.#barren > 1) await pause(waitOf(this.#barren), signal);
    for (let attempt = 0;; attempt++) {
      signal.throwIfAborted();
      let line: Line | undefined;
      try {
        line = await Line.open(server, `hark relay ${relay}`, old.number + 1, old.end);
        this.#info = await this.#same(line);
        const { ids } = await idsBehind(line, stream, old.base, { domain: server.domain });
        signal.throwIfAborted(); // after the end no one would close it
        this.#line = line;
        if (this.#barren < 2) trouble(undefined);
        return this.#given(ids);
      } catch (error) {
        line?.lose(messageOf(error));
        const isOut = error instanceof Lost ||
          error instanceof HarkError && ["UNREACHABLE"].includes(error.code);
        if (!isOut) throw error;
        trouble(messageOf(error));
        await pause(waitOf(attempt), signal);
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#line[Symbol.asyncDispose]();
  }
}

/** How long to wait before an attempt to connect, in milliseconds. */
function waitOf(attempt: number): number {
  return Math.min(waits[0] * 2 ** attempt, waits[1]) * (0.5 + Math.random() / 2);
}
