/**
 * Handlers to use as they are: {@linkcode print} writes notifications to the console, and
 * {@linkcode webhook} posts them to another party's server.
 *
 * @example
 * ```ts
 * import { connect, Consumer } from "@hark/postgres";
 * import { webhook } from "@hark/postgres/handlers";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * const consumer = new Consumer(db, {
 *   id: "partner",
 *   channels: "orders",
 *   concurrency: 10,
 *   handle: webhook({
 *     url: "https://partner.example/hooks",
 *     secret: Deno.env.get("PARTNER_SECRET")!,
 *   }),
 * });
 * await consumer.run();
 * ```
 *
 * @module
 */

export { print, type PrintOptions } from "./print.ts";
export { webhook, WebhookError, type WebhookOptions, type WebhookResult } from "./webhook.ts";
