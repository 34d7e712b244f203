import assert from "node:assert/strict";
import { DeadLetter, type StandardSchema, watched } from "../../mod.ts";
import { context, published, same } from "./_support/typed.ts";

/** A schema as the libraries make them: email in lower case, born as a Date. */
function schema(later: boolean) {
  interface Input {
    id: number;
    born: string;
  }
  interface Output {
    id: number;
    born: Date;
  }
  const check = (value: unknown) => {
    const { id, born } = value as Partial<Input>;
    const date = new Date(born ?? NaN);
    const issues = [
      ...(typeof id === "number" ? [] : [{ message: "is no number", path: ["id"] }]),
      ...(Number.isNaN(date.getTime()) ? [{ message: "is no date", path: [{ key: "born" }] }] : []),
    ];
    return issues.length > 0 ? { issues } : { value: { id: id!, born: date } };
  };
  return {
    "~standard": {
      version: 1,
      vendor: "test",
      validate: later ? (value) => Promise.resolve(check(value)) : check,
    },
  } satisfies StandardSchema<Input, Output> as StandardSchema<Input, Output>;
}

for (const later of [false, true]) {
  const when = later ? "later" : "at once";
  Deno.test(`rows are what the schema makes of them, ${when}`, async () => {
    const users = watched("public.users", { row: schema(later), key: "id" });
    const born: Date[] = [];
    const handle = users.handler((change) => {
      if (!change.isUpdate()) return;
      same<typeof change.new, { id: number; born: Date }>();
      same<typeof change.id, number>();
      born.push(change.old.born, change.new.born);
    });
    const row = (born: string) => ({ id: 1, born });
    const rows = { old: row("2001-02-03"), new: row("2002-03-04") };
    await handle(published({ action: "UPDATE", ...rows, changed: ["born"] }), context);
    assert.deepEqual(born.map((one) => one.getUTCFullYear()), [2001, 2002]);
    const change = await users.change(published({ action: "DELETE", old: rows.old }));
    assert(!change.truncated && change.isDelete());
    assert.equal(change.old.born.getUTCDate(), 3);
  });

  Deno.test(`a row that does not fit is a dead letter that says why, ${when}`, async () => {
    const users = watched("public.users", { row: schema(later) });
    const handle = users.handler(() => assert.fail("was handled"));
    const wrong = published({ action: "INSERT", new: { id: "x" } });
    await assert.rejects(async () => await handle(wrong, context), (error) => {
      assert(error instanceof DeadLetter);
      assert.match(
        error.message,
        /new row of .*id: is no number; born: is no date \(notification 42\)$/,
      );
      assert.equal((error.cause as unknown[]).length, 2);
      return true;
    });
    await assert.rejects(users.change(wrong), DeadLetter);
  });
}

Deno.test("what a diff tells of an update is not taken for a row of the schema", async () => {
  const users = watched("public.users", { row: schema(false), payload: "diff" });
  const change = await users.change(
    published({ action: "UPDATE", old: { born: "x" }, new: { born: "y" }, changed: ["born"] }),
  );
  assert(!change.truncated && change.isUpdate());
  same<typeof change.new, { readonly id?: unknown; readonly born?: unknown }>();
  assert.deepEqual(change.new, { born: "y" });
});
