/**
 * Connections to a NATS server. Shared by the relay and the inbox.
 *
 * @module
 */

import { type ConnectionOptions, credsAuthenticator, nkeyAuthenticator } from "@nats-io/nats-core";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { messageOf } from "../../database/translate.ts";
import { HarkError } from "../../errors.ts";
import { guardSockets } from "./guard.ts";
import { listOf, namesOf, type NatsOptions, urlOf } from "./nats_options.ts";

/** How long a connection may take, in milliseconds. */
const connectTime = 5_000;

/**
 * Connects. The connection does not reconnect by itself: what it had under way would be sent anew, out
 * of order.
 *
 * @throws {HarkError} `UNREACHABLE`, `NO_PERMISSION`.
 */
export async function connectNats(options: NatsOptions, name: string): Promise<NatsConnection> {
  guardSockets();
  const urls = listOf(options).map(urlOf);
  const login = urls.find(({ username }) => username !== "");
  const user = options.user ?? (login && decodeURIComponent(login.username));
  const pass = options.password ?? (login && decodeURIComponent(login.password));
  const { token, credentials, nkey, tls, inboxPrefix } = options;
  const encoder = new TextEncoder();
  const authenticator = credentials !== undefined
    ? credsAuthenticator(encoder.encode(credentials))
    : nkey !== undefined
    ? nkeyAuthenticator(encoder.encode(nkey))
    : undefined;
  const isSecure = tls !== undefined || urls.some(({ protocol }) => protocol === "tls:");
  const given: ConnectionOptions = {
    servers: urls.map(({ host }) => host),
    name,
    reconnect: false,
    timeout: connectTime,
    pingInterval: 5_000,
    maxPingOut: 2,
    ignoreClusterUpdates: true,
    ...(user === undefined || user === "" ? {} : { user }),
    ...(pass === undefined || pass === "" ? {} : { pass }),
    ...(token === undefined ? {} : { token }),
    ...(authenticator === undefined ? {} : { authenticator }),
    ...(isSecure ? { tls: { ...tls } } : {}),
    ...(inboxPrefix === undefined ? {} : { inboxPrefix }),
  };
  try {
    return await connect(given);
  } catch (cause) {
    const reason = messageOf(cause);
    const isLogin = /authori[sz]ation|authentication|nkey|credential/i.test(reason) ||
      (cause as { name?: unknown }).name === "AuthorizationError";
    const where = namesOf(options);
    if (isLogin) {
      throw new HarkError(
        "NO_PERMISSION",
        `the NATS server at ${where} refused the login: ${reason}`,
        {
          cause,
          remedy: "Check user and password, token, credentials or nkey.",
        },
      );
    }
    throw new HarkError("UNREACHABLE", `no NATS server answered at ${where}: ${reason}`, {
      cause,
      remedy: "Check the address, and that the server runs.",
    });
  }
}
