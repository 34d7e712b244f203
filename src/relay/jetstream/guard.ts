/**
 * Keeps a socket of the NATS client from ending the process. When a connection is closed, transport-node
 * 3.4.0 takes all listeners from its socket before it destroys it. A reset that arrives in between is then
 * an error without a listener, which ends a program. Seen when a server refused a login, and when one was
 * killed.
 *
 * @module
 */

import type { EventEmitter } from "node:events";
import { NodeTransport } from "@nats-io/transport-node/lib/node_transport.js";

/** The methods of a transport that make a socket. */
type Makers = Record<
  "dial" | "tlsFirst" | "startTLS",
  (...given: never[]) => Promise<EventEmitter>
>;

const guarded = new WeakSet<object>();

/** Guards the sockets of all connections that are made from now on. */
export function guardSockets(): void {
  const makers = NodeTransport.prototype as unknown as Makers;
  if (guarded.has(makers)) return;
  guarded.add(makers);
  for (const name of ["dial", "tlsFirst", "startTLS"] as const) {
    const make = makers[name];
    makers[name] = async function (this: unknown, ...given) {
      return guard(await make.apply(this, given));
    };
  }
}

function guard(socket: EventEmitter): EventEmitter {
  const { removeAllListeners } = socket;
  const ignore = () => {}; // the client hears of it by the end of the connection
  socket.on("error", ignore);
  socket.removeAllListeners = function (...given) {
    removeAllListeners.apply(this, given);
    return this.on("error", ignore);
  };
  return socket;
}
