import assert from "node:assert/strict";
import {
  type Change,
  type ChangeOf,
  DeadLetter,
  Notification,
  type OversizedChange,
  type StandardSchema,
  watched,
} from "../../mod.ts";
import { ann, bob, context, metadata, published, same } from "./_support/typed.ts";
import type { User } from "./_support/users.ts";

// Most of what is promised here, the compiler checks: `deno check` fails where a type is another one.

Deno.test("each kind of change has its own old, new, id and changed, without a cast", async () => {
  const users = watched<User, "id">("public.users");
  const seen: unknown[] = [];
  const handle = users.handler((change, { signal }) => {
    same<typeof signal, AbortSignal>();
    if (change.isInsert()) {
      same<typeof change.new, User>();
      same<typeof change.old, undefined>();
      same<typeof change.id, number>();
      seen.push(["insert", change.new.email]);
    } else if (change.isUpdate()) {
      same<typeof change.old, User>();
      same<typeof change.new, User>();
      same<typeof change.changed, readonly ("id" | "email" | "age")[]>();
      seen.push(["update", change.old.email, change.new.email, change.changed]);
    } else if (change.isDelete()) {
      same<typeof change.old, User>();
      same<typeof change.new, undefined>();
      seen.push(["delete", change.old.email, change.moved]);
    } else if (change.isTruncate()) {
      same<typeof change.id, null>();
      seen.push(["truncate", change.id]);
    } else {
      same<typeof change.action, "SNAPSHOT">();
      same<typeof change.new, User>();
      seen.push(["snapshot", change.new.email]);
    }
  });
  await handle(published({ action: "INSERT", new: ann }), context);
  await handle(published({ action: "UPDATE", old: ann, new: bob, changed: ["email"] }), context);
  await handle(published({ action: "DELETE", old: bob, moved: true }), context);
  await handle(published({ action: "TRUNCATE", id: null }), context);
  await handle(published({ action: "SNAPSHOT", new: ann }), context);
  assert.deepEqual(seen, [
    ["insert", ann.email],
    ["update", ann.email, bob.email, ["email"]],
    ["delete", bob.email, true],
    ["truncate", null],
    ["snapshot", ann.email],
  ]);
});

Deno.test("`action` tells the changes apart as well, and a switch over it is complete", () => {
  const users = watched<User>("public.users");
  const describe = (change: ChangeOf<typeof users>): string => {
    same<typeof change, Change<User>>();
    same<typeof change.id, unknown>();
    switch (change.action) {
      case "INSERT":
      case "SNAPSHOT":
        return change.new.email;
      case "UPDATE":
        return change.changed.join();
      case "DELETE":
        return change.old.email;
      case "TRUNCATE":
        return "all";
    }
  };
  const handle = users.handler((change) => assert.equal(describe(change), "ann@example.com"));
  assert.equal(handle(published({ action: "INSERT", new: ann }), context), undefined);
});

Deno.test("the types follow the payload", () => {
  const update = { action: "UPDATE", changed: ["email"] };
  const both = published({ ...update, old: { email: "a" }, new: { email: "b" } });

  const diff = watched<User>("public.users", { payload: "diff" });
  diff.handler((change) => {
    if (change.isUpdate()) {
      same<typeof change.old, Partial<User>>();
      same<typeof change.new, Partial<User>>();
      assert.deepEqual([change.old.email, change.new.email, change.changed], ["a", "b", ["email"]]);
    }
    if (change.isInsert()) same<typeof change.new, User>();
    if (change.isDelete()) same<typeof change.old, User>();
  })(both, context);

  const fresh = watched<User>("public.users", { payload: "new" });
  fresh.handler((change) => {
    if (change.isUpdate()) {
      same<typeof change.old, undefined>();
      same<typeof change.new, User>();
      same<typeof change.changed, undefined>();
      assert.deepEqual([change.old, change.changed], [undefined, undefined]);
    }
    if (change.isDelete()) same<typeof change.old, undefined>();
  })(both, context);

  const key = watched<User, "id">("public.users", { payload: "key" });
  key.handler((change) => {
    same<typeof change.old, undefined>();
    same<typeof change.new, undefined>();
    assert.deepEqual([change.id, change.old, change.new], [1, undefined, undefined]);
  })(published(update), context);

  // @ts-expect-error -- the old row is not published
  fresh.handler((change) => change.isUpdate() && change.old.email);
  // @ts-expect-error -- whether there is a row depends on what it is
  watched<User>("public.users").handler((change) => change.new.email);
});

Deno.test("a key of several columns is an object of their types", () => {
  const seats = watched<{ row: string; seat: number; free: boolean }, "row" | "seat">(
    "public.seats",
    { key: ["row", "seat"] },
  );
  assert.deepEqual(seats.key, ["row", "seat"]);
  seats.handler((change) => {
    if (change.isInsert()) {
      same<typeof change.id, { readonly row: string; readonly seat: number }>();
    }
  });
  // @ts-expect-error -- there is no such column
  watched<User, "name">("public.users");
  // @ts-expect-error -- here neither
  assert.deepEqual(watched<User>("public.users", { key: "name" }).key, ["name"]);
});

Deno.test("a row that was too large to be published has a handler of its own, or is a dead letter", async () => {
  const users = watched<User, "id">("public.users");
  const cut = published({ action: "UPDATE", truncated: true });
  const ids: number[] = [];
  const handle = users.handler(() => assert.fail("there is no row"), {
    oversized(change) {
      same<typeof change, OversizedChange<number>>();
      ids.push(change.id);
    },
  });
  await handle(cut, context);
  assert.deepEqual(ids, [1]);
  const without = users.handler(() => assert.fail("there is no row"));
  await assert.rejects(async () => await without(cut, context), {
    name: "DeadLetter",
    message: /comes without its row.*oversized.*\(notification 42, UPDATE of users\)$/,
  });
  const change = await users.change(cut);
  if (change.truncated) same<typeof change.new, undefined>();
  assert.deepEqual([change.truncated, change.old, change.new], [true, undefined, undefined]);
});

Deno.test("a change says who made it, in which transaction and context", async () => {
  const users = watched<User>("public.users");
  const notification = published({ action: "INSERT", new: ann, partition: "users_1" }, {
    trace: "t",
  });
  const change = await users.change(notification);
  assert.deepEqual(change.metadata, metadata);
  assert.deepEqual(change.context, { trace: "t" });
  assert.equal(change.notification, notification);
  assert.deepEqual([change.schema, change.table, change.partition], ["public", "users", "users_1"]);
});

Deno.test("what is no change of the table is a dead letter, and can be told beforehand", async () => {
  const users = watched<User>("public.users");
  const change = { action: "INSERT", new: ann };
  assert.equal(users.matches(published(change)), true);
  for (
    const [payload, sentence] of [
      [{ ...change, table: "orders" }, /a change of orders, not of public\.users/],
      [{ ...change, schema: "shop" }, /not of public\.users/],
      [{ ...change, action: "MERGE" }, /not a change of public\.users/],
      [{ ...change, metadata: null }, /no metadata/],
      [{ ...change, new: undefined }, /no new row: .* another payload than "full"/],
      [{ action: "UPDATE", old: ann, new: bob }, /no changed columns/],
      [{ action: "DELETE" }, /no old row/],
    ] satisfies [Record<string, unknown>, RegExp][]
  ) {
    const notification = published(payload);
    await assert.rejects(users.change(notification), { name: "DeadLetter", message: sentence });
  }
  assert.equal(users.matches(published({ ...change, schema: "shop" })), false);
  for (const payload of [null, 7, "x", [], {}]) {
    const odd = new Notification({
      id: 1,
      channel: "public.users",
      key: null,
      payload: JSON.stringify(payload),
      headers: null,
      createdAt: 0,
      isReplay: false,
    });
    assert.equal(users.matches(odd), false);
    await assert.rejects(users.change(odd), DeadLetter);
  }
});

Deno.test("a table's name is read as PostgreSQL reads it", async () => {
  assert.equal(watched("Public.Users").channel, "public.users");
  assert.equal(watched(' "Shop" . "Or""ders" ').channel, 'Shop.Or"ders');
  assert.equal(watched("users", { channel: "people" }).channel, "people");
  const odd = watched<User>('public."Users.Old"', { name: "audit", channel: "c" });
  assert.deepEqual([odd.name, odd.channel, odd.payload, odd.key], ["audit", "c", "full", null]);
  assert.equal(odd.matches(published({ action: "INSERT", table: "Users.Old", new: ann })), true);
  await Promise.resolve();
});

Deno.test("watched() refuses what cannot be, and says what to give", () => {
  const wrong: [() => unknown, RegExp][] = [
    [() => watched("users"), /without its schema, so its channel is not known.*"public\.users"/],
    [() => watched("a.b.c"), /table is "a\.b\.c"/],
    [() => watched('public."users'), /Give "schema\.table"/],
    [() => watched(""), /table is ""/],
    [() => watched("public.users", { nmae: "x" } as object), /no option "nmae".*name/],
    [() => watched("public.users", { name: "" }), /name is ""/],
    [() => watched("public.users", { key: [] }), /key is \[\].*at least one/],
    [() => watched("public.users", { payload: "all" as "full" }), /payload is "all".*"diff"/],
    [() => watched("public.users", { row: {} as StandardSchema }), /row is \{\}.*Standard Schema/],
    [() => watched("public.users").handler(7 as never), /handle is 7/],
    [() => watched("public.users").handler(() => {}, { big: 1 } as object), /"big"/],
  ];
  for (const [run, sentence] of wrong) {
    assert.throws(run, { name: "HarkError", code: "BAD_OPTION", message: sentence });
  }
  assert.throws(() => watched("public.users", { channel: "" }), { code: "BAD_CHANNEL" });
});
