/**
 * Typed channels: a module for publishers and consumers alike. examples/typed.ts uses it.
 *
 *     deno task channels examples/channels.ts
 */
import { z } from "npm:zod@4.6.7";
import { channel } from "@hark/postgres";

const OrderV1 = z.object({ id: z.string(), total: z.number() });

const OrderV2 = z.object({
  id: z.string(),
  total: z.number(),
  currency: z.string(),
  // Stored as text and an array, handled as a Date and a Set.
  at: z.iso.datetime().transform((text) => new Date(text)),
  tags: z.array(z.string()).transform((tags) => new Set(tags)),
});

/** An order was paid. */
export const paid = channel("orders.paid", OrderV2)
  .from(OrderV1, (old) => ({ ...old, currency: "EUR", at: "2026-01-01T00:00:00Z", tags: [] }))
  .key((order) => order.id);

/** An order was refunded. */
export const refunded = channel("orders.refunded", OrderV1).key((order) => order.id);
