/**
 * What people know this process by.
 *
 * @module
 */

import { hostname } from "node:os";
import process from "node:process";

let known: string | undefined;

/**
 * `HOST:PID`, and `/THREAD` in a named thread. Without the right to read the host's name it begins
 * with the colon: the server puts the address before it. Never asks for that right.
 */
export function processName(): string {
  return known ??= `${mayRead() ? hostname() : ""}:${process.pid}${thread()}`;
}

function mayRead(): boolean {
  if (typeof Deno === "undefined") return true;
  const { state } = Deno.permissions.querySync({ name: "sys", kind: "hostname" });
  return state === "granted";
}

function thread(): string {
  const { name } = globalThis as { name?: unknown };
  return typeof name === "string" && name !== "" ? `/${name.slice(0, 40)}` : "";
}
