/**
 * The options that say how to reach a NATS server. Without its client: see server.ts.
 *
 * @module
 */

import { bad } from "../../check.ts";
import { HarkError } from "../../errors.ts";

/** How to reach a NATS server, and as which user. */
export interface NatsOptions {
  /**
   * The servers: `nats://host:port`, or a list of them for a cluster. A user and a password may stand
   * in the URL.
   *
   * @default {"nats://127.0.0.1:4222"}
   */
  readonly servers?: string | readonly string[];
  /** The user. */
  readonly user?: string;
  /** The password of the user. */
  readonly password?: string;
  /** A token instead of a user. */
  readonly token?: string;
  /** The text of a `.creds` file instead of a user. */
  readonly credentials?: string;
  /** The seed of an NKey instead of a user. */
  readonly nkey?: string;
  /** Certificates as PEM, for a server that asks for TLS. An empty object takes well-known ones. */
  readonly tls?: {
    /** The certificate authorities to trust. */
    readonly ca?: string;
    /** The certificate of this client. */
    readonly cert?: string;
    /** The private key of this client. */
    readonly key?: string;
  };
  /** What inboxes begin with, for a user with the right to some only. */
  readonly inboxPrefix?: string;
  /** The JetStream domain. */
  readonly domain?: string;
}

/** The names of {@linkcode NatsOptions}. */
export const natsOptionNames = [
  "servers",
  "user",
  "password",
  "token",
  "credentials",
  "nkey",
  "tls",
  "inboxPrefix",
  "domain",
] as const;

/** A server's addresses without users and passwords, for messages. */
export function namesOf(options: NatsOptions): string {
  return listOf(options).map((server) => urlOf(server).host).join(", ");
}

/** The addresses. */
export function listOf({ servers = "nats://127.0.0.1:4222" }: NatsOptions): readonly string[] {
  return typeof servers === "string" ? servers.split(",") : servers;
}

/** An address as a URL. */
export function urlOf(server: string): URL {
  return new URL(server.includes("://") ? server : `nats://${server}`);
}

/** Checks the options that say how to reach a server. */
export function checkNats(options: NatsOptions): void {
  const { servers } = options;
  const isList = Array.isArray(servers) && servers.length > 0 &&
    servers.every((one) => typeof one === "string");
  if (servers !== undefined && typeof servers !== "string" && !isList) {
    bad("servers", servers, "Give nats://host:port, or a list of these.");
  }
  for (const server of listOf(options)) {
    const text = server.includes("://") ? server : `nats://${server}`;
    if (!URL.canParse(text) || !/^(nats|tls):$/.test(new URL(text).protocol)) {
      throw new HarkError("BAD_OPTION", "servers holds what is no address of a NATS server", {
        remedy: "Give nats://host:port.", // not the value: it may hold a password
      });
    }
  }
  for (
    const name of [
      "user",
      "password",
      "token",
      "credentials",
      "nkey",
      "inboxPrefix",
      "domain",
    ] as const
  ) {
    if (options[name] !== undefined && typeof options[name] !== "string") {
      throw new HarkError("BAD_OPTION", `${name} is of the type ${typeof options[name]}`, {
        remedy: "Give a text.",
      });
    }
  }
}
