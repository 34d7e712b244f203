/**
 * One POST over a connection of its own, to an address that was looked at. With `fetch` the name would
 * be looked up again, and could then lead elsewhere.
 *
 * @module
 */

import { lookup } from "node:dns/promises";
import { Agent, type IncomingMessage, request } from "node:http";
import { connect, isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { orAborted } from "../aborted.ts";
import { HarkError } from "../errors.ts";
import { isPublic } from "./address.ts";

/** What to send, and how. */
export interface Post {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly signal: AbortSignal;
  /** Whether addresses that are not public are allowed. */
  readonly allowPrivate: boolean;
  /** The certificates to trust instead of the well-known ones, as PEM. */
  readonly ca: string | undefined;
}

/** An answer. */
export interface Answer {
  readonly status: number;
  /** The header `Retry-After`. */
  readonly retryAfter: string | undefined;
  /** The beginning of the body, if the status is no success. */
  readonly text: string;
}

/** How many bytes of an answer's body are read. */
const mostRead = 4096;

/** Posts, and reads the answer's status. Redirects are not followed. Rejects when the signal aborts. */
export async function post(given: Post): Promise<Answer> {
  given.signal.throwIfAborted();
  const socket = await reach(given);
  try {
    return await ask(given, socket);
  } finally {
    socket.destroy();
  }
}

/** Connects to one of the addresses of the URL's host. */
async function reach(given: Post): Promise<Socket> {
  const { url, signal, allowPrivate } = given;
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const found = isIP(host) > 0
    ? [host]
    : (await orAborted(lookup(host, { all: true }), signal)).map(({ address }) => address);
  // All of them: which one is taken is not up to this program alone.
  const inside = allowPrivate ? undefined : found.find((address) => !isPublic(address));
  if (inside !== undefined) {
    throw new HarkError("BAD_OPTION", `${host} is ${inside}, which is no public address`, {
      remedy: "If the webhook is meant for your own network, set allowPrivateAddresses: true.",
    });
  }
  let failure: unknown;
  for (const address of found) {
    signal.throwIfAborted();
    try {
      return await open(given, host, address);
    } catch (error) {
      failure = error;
    }
  }
  throw failure ?? new Error(`${host} has no address`);
}

async function open({ url, signal, ca }: Post, host: string, address: string): Promise<Socket> {
  const secure = url.protocol === "https:";
  const port = Number(url.port) || (secure ? 443 : 80);
  const socket: Socket = secure
    ? connectTls({
      host: address,
      port,
      ALPNProtocols: ["http/1.1"],
      ...(isIP(host) > 0 ? {} : { servername: host }),
      ...(ca === undefined ? {} : { ca }),
    })
    : connect({ host: address, port });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.once(secure ? "secureConnect" : "connect", resolve);
  // For as long as the socket lives: without a listener, a late error would end the process.
  socket.on("error", reject);
  socket.once("close", () => reject(new Error("the connection was closed")));
  try {
    await orAborted(promise, signal);
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

async function ask({ url, headers, body, signal }: Post, socket: Socket): Promise<Answer> {
  const agent = Object.assign(new Agent(), { createConnection: () => socket });
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const bytes = new TextEncoder().encode(body);
  const sent = request({
    agent,
    method: "POST",
    host: url.hostname,
    path: `${url.pathname}${url.search}`,
    headers: {
      ...headers,
      host: url.host,
      "content-length": String(bytes.length),
      connection: "close",
    },
  }, resolve);
  sent.on("error", reject);
  sent.on("close", () => reject(new Error("the connection was closed before an answer")));
  sent.end(bytes);
  try {
    const response = await orAborted(promise, signal);
    response.on("error", () => {}); // the status counts, also if the rest is cut off
    const status = response.statusCode!;
    const isSuccess = status >= 200 && status < 300;
    return {
      status,
      retryAfter: response.headers["retry-after"],
      text: isSuccess ? "" : await orAborted(beginning(response), signal),
    };
  } finally {
    sent.destroy();
  }
}

/** The beginning of a body, as text. An answer counts by its status, however its body ends. */
async function beginning(response: IncomingMessage): Promise<string> {
  const parts: Uint8Array[] = [];
  let size = 0;
  const { promise, resolve } = Promise.withResolvers<void>();
  response.on("data", (part: Uint8Array) => {
    parts.push(part.subarray(0, mostRead - size));
    size += part.length;
    if (size >= mostRead) resolve();
  });
  for (const end of ["end", "close", "error", "aborted"]) response.on(end, () => resolve());
  await promise;
  response.pause();
  return new TextDecoder().decode(await new Blob(parts as Uint8Array<ArrayBuffer>[]).arrayBuffer());
}
