/**
 * One order in two versions, as three libraries describe it. Each makes a Date, a Set and a bigint of
 * what JSON can hold.
 *
 * @module
 */

import { type } from "npm:arktype@2.2.10";
import * as v from "npm:valibot@1.5.0";
import { z } from "npm:zod@4.6.7";
import { channel } from "../../../mod.ts";

/** What publishers give. */
export interface Given {
  id: string;
  at: string;
  tags: string[];
  cents: string;
}

/** What handlers get. */
export interface Made {
  id: string;
  at: Date;
  tags: Set<string>;
  cents: bigint;
}

const zod = z.object({
  id: z.string(),
  at: z.iso.datetime().transform((text) => new Date(text)),
  tags: z.array(z.string()).transform((tags) => new Set(tags)),
  cents: z.string().regex(/^\d+$/).transform(BigInt),
});

const valibot = v.object({
  id: v.string(),
  at: v.pipe(v.string(), v.isoTimestamp(), v.transform((text) => new Date(text))),
  tags: v.pipe(v.array(v.string()), v.transform((tags) => new Set(tags))),
  cents: v.pipe(v.string(), v.digits(), v.transform((text) => BigInt(text))),
});

const arktype = type({
  id: "string",
  at: "string.date.iso.parse",
  tags: type("string[]").pipe((tags) => new Set(tags)),
  cents: type("string.digits").pipe((text) => BigInt(text)),
});

/** The same channel by each library. */
export const orders = {
  zod: channel("orders", zod),
  valibot: channel("orders", valibot),
  arktype: channel("orders", arktype),
};

/** An order before it had a currency, and since. */
export const OrderV1 = z.object({ id: z.string(), total: z.number() });
/** The second version. */
export const OrderV2 = z.object({ id: z.string(), total: z.number(), currency: z.string() });
/** The third, in cents. */
export const OrderV3 = z.object({ id: z.string(), cents: z.int(), currency: z.string() });

/** The channel of the program as it was. */
export const first = channel("orders.paid", OrderV1).key(({ id }) => id);
/** The channel of the next program. */
export const second = channel("orders.paid", OrderV2)
  .from(OrderV1, (old) => ({ ...old, currency: "EUR" }))
  .key(({ id }) => id);
/** The channel of the program after it. */
export const third = channel("orders.paid", OrderV3)
  .from(OrderV2, ({ id, total, currency }) => ({ id, cents: total * 100, currency }))
  .from(OrderV1, (old) => ({ ...old, currency: "EUR" }));
