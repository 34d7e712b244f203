import assert from "node:assert/strict";
import { z } from "npm:zod@4.6.7";
import { channel, type StandardSchema } from "../../mod.ts";
import { asyncApi } from "../../src/channels/asyncapi.ts";
import { compare } from "../../src/channels/compare.ts";
import { definitionOf } from "../../src/channels/kind.ts";
import { misfits } from "../../src/channels/misfits.ts";
import { first, orders, second, third } from "./_support/orders.ts";

const jsonSchema = (schema: StandardSchema) =>
  schema["~standard"].jsonSchema!.input({ target: "draft-2020-12" });
const described = (...channels: unknown[]) => asyncApi(channels.map((one) => definitionOf(one)!));
const order = z.object({ id: z.string(), total: z.number() });

/** What may not fit, if the one schema becomes the other. */
const changes: [name: string, from: StandardSchema, to: StandardSchema, found: RegExp[]][] = [
  ["nothing", order, order, []],
  ["a description", order, order.describe("an order"), []],
  ["an optional field more", order, order.extend({ note: z.string().optional() }), []],
  ["a field with a default more", order, order.extend({ note: z.string().default("") }), []],
  ["a required field more", order, order.extend({ note: z.string() }), [/^note: is required$/]],
  ["a field less", order, order.omit({ total: true }), []],
  [
    "a field less of a strict object",
    z.strictObject({ a: z.string(), b: z.string() }),
    z.strictObject({ a: z.string() }),
    [/^b: is not taken any more$/],
  ],
  ["no other fields", order, z.strictObject(order.shape), [
    /^other fields are not taken any more$/,
  ]],
  ["an optional field made required", order.partial(), order, [
    /^id: is required$/,
    /^total: is required$/,
  ]],
  ["another type", order, order.extend({ total: z.string() }), [
    /^total: type is string, was number$/,
  ]],
  ["a wider type", order, order.extend({ total: z.union([z.string(), z.number()]) }), []],
  [
    "a narrower type",
    order,
    order.extend({ total: z.int() }),
    [/^total: type is integer, was number$/, /./, /./].slice(0, 1),
  ],
  ["null no more", z.object({ a: z.string().nullable() }), z.object({ a: z.string() }), [
    /^a: type is string, was null$/,
  ]],
  ["a value less", z.object({ a: z.enum(["x", "y"]) }), z.object({ a: z.enum(["x"]) }), [
    /^a: "y" is not taken any more$/,
  ]],
  ["a value more", z.object({ a: z.enum(["x"]) }), z.object({ a: z.enum(["x", "y"]) }), []],
  ["text instead of a value", z.object({ a: z.literal("x") }), z.object({ a: z.string() }), []],
  ["a value instead of text", z.object({ a: z.string() }), z.object({ a: z.literal("x") }), [
    /^a: only "x" is taken, was string$/,
  ]],
  ["a longer least length", z.string().min(1), z.string().min(2), [/^minLength is 2, was 1$/]],
  ["a lower most number", z.number().max(9), z.number().max(8), [/^maximum is 8, was 9$/]],
  ["wider bounds", z.number().min(1).max(8), z.number().min(0).max(9), []],
  ["a pattern", z.string(), z.string().regex(/^a/), [/^pattern is "\^a", was none$/]],
  ["another item", z.array(z.string()), z.array(z.number()), [/^\*: type is number, was string$/]],
  [
    "another part of a tuple",
    z.tuple([z.string(), z.string()]),
    z.tuple([z.string(), z.number()]),
    [/^1: type is number, was string$/],
  ],
  [
    "another value of a record",
    z.record(z.string(), z.string()),
    z.record(z.string(), z.number()),
    [/^\*: type is number, was string$/],
  ],
  [
    "an event less",
    z.discriminatedUnion("name", [
      z.object({ name: z.literal("a") }),
      z.object({ name: z.literal("b") }),
    ]),
    z.discriminatedUnion("name", [z.object({ name: z.literal("a") })]),
    [/^name: "b" is not taken any more$|fits none of/],
  ],
  [
    "an event more",
    z.discriminatedUnion("name", [z.object({ name: z.literal("a") })]),
    z.discriminatedUnion("name", [
      z.object({ name: z.literal("a") }),
      z.object({ name: z.literal("b") }),
    ]),
    [],
  ],
  [
    "two parts of an intersection",
    order,
    z.intersection(order, z.object({ id: z.string().max(5) })),
    [/^id: maxLength is 5, was none$/],
  ],
];

for (const [name, from, to, found] of changes) {
  Deno.test(`a schema with ${name} ${found.length === 0 ? "takes all" : "does not take all"} that fitted before`, () => {
    const told = misfits(jsonSchema(from), jsonSchema(to));
    assert.equal(
      told.length >= found.length && (told.length > 0) === (found.length > 0),
      true,
      `${told}`,
    );
    for (const pattern of found) assert(told.some((one) => pattern.test(one)), `${told}`);
  });
}

Deno.test("a schema that refers to itself is compared", () => {
  const tree = (leaf: z.ZodType) => {
    const node: z.ZodType = z.lazy(() => z.object({ leaf, children: z.array(node) }));
    return jsonSchema(node as StandardSchema);
  };
  assert.deepEqual(misfits(tree(z.string()), tree(z.string())), []);
  assert.deepEqual(misfits(tree(z.string()), tree(z.number())), [
    "leaf: type is number, was string",
  ]);
});

Deno.test("a new version is compatible, and so is what adds a channel or an optional field", () => {
  for (
    const [before, after] of [
      [[first], [second]],
      [[second], [third]],
      [[first], [third, orders.zod]],
      [[channel("a", order)], [channel("a", order.extend({ note: z.string().optional() }))]],
    ]
  ) {
    const found = compare(described(...before!), described(...after!));
    assert.deepEqual(found.incompatible, []);
  }
});

Deno.test("each incompatible change is named", () => {
  const found = (before: unknown, ...after: unknown[]) =>
    compare(described(before), described(...after)).incompatible.join("\n");
  assert.match(found(second), /channel "orders.paid" is gone/);
  assert.match(found(second, first), /channel "orders.paid" goes back from version 2 to 1/);
  const changed = channel("orders.paid", order.extend({ total: z.string() }));
  assert.match(
    found(first, changed),
    /version 1 may not read what is stored: total: type is string/,
  );
  assert.match(
    found(first, changed),
    /version 1, as older workers know it, may not read what is published: total: type is number/,
  );
  // Read by the new program, but not by workers of the old one.
  const wider = channel("orders.paid", order.extend({ total: z.union([z.string(), z.number()]) }));
  assert.match(
    found(first, wider),
    /^channel "orders.paid" version 1, as older workers know it.* total: /,
  );
  // An older version is only read.
  const kept = channel("orders.paid", z.object({ id: z.string() }))
    .from(order.extend({ total: z.union([z.string(), z.number()]) }), ({ id }) => ({ id }));
  assert.equal(found(first, kept), "");
});

Deno.test("what a library cannot describe is said, and is no failure", () => {
  const { channels } = described(orders.valibot);
  const { v1 } = channels.orders!.messages;
  assert.equal(v1!.payload, undefined);
  assert.match(v1!["x-hark-undescribed"]!, /valibot does not describe its schemas/);
  const typed = described(channel("a"), channel("b", z.object({ at: z.date() })));
  assert.match(typed.channels.a!.messages.v1!["x-hark-undescribed"]!, /has a type only/);
  assert.match(
    typed.channels.b!.messages.v1!["x-hark-undescribed"]!,
    /zod cannot describe it: .*Date/,
  );
  const { incompatible, unknown } = compare(described(orders.valibot), described(orders.valibot));
  assert.deepEqual(incompatible, []);
  assert.match(unknown.join(), /channel "orders" version 1 cannot be compared: valibot/);
});

Deno.test("arktype describes what publishers give", () => {
  const { payload } = described(orders.arktype).channels.orders!.messages.v1!;
  assert.equal((payload as { type: string }).type, "object");
});
