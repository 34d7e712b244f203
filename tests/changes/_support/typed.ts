/**
 * Notifications of a watch without a database, and types that have to be the same.
 *
 * @module
 */

import { type HandlerContext, Notification } from "../../../mod.ts";
import type { User } from "./users.ts";

/** Whether two types are the same, neither being `any`. */
export type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2)
  ? true
  : false;

/** Does nothing: compiles only where the types are the same. */
export function same<A, B>(..._proof: Same<A, B> extends true ? [] : [never]): void {}

/** Who changes things here. */
export const metadata = { user: "u", role: "u", application: "", session: 1, transaction: "7" };

/** A notification of a change of public.users, as a watch publishes it. */
export function published(payload: Record<string, unknown>, headers?: object): Notification {
  return new Notification({
    id: 42,
    channel: "public.users",
    key: "1",
    payload: JSON.stringify({ schema: "public", table: "users", id: 1, metadata, ...payload }),
    headers: headers === undefined ? null : JSON.stringify(headers),
    createdAt: 0,
    isReplay: false,
  });
}

/** A user. */
export const ann: User = { id: 1, email: "ann@example.com", age: 30 };
/** The same with another address. */
export const bob: User = { ...ann, email: "bob@example.com" };
/** What a handler is given. */
export const context = { signal: new AbortController().signal } as HandlerContext;
