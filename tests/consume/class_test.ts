/** Consumers that are classes: their fields are options, and are checked like options. */

import assert from "node:assert/strict";
import { join } from "node:path";
import {
  channel,
  connect,
  Consumer,
  type ConsumerOptions,
  type Handler,
  type HandlerContext,
  type Notification,
  notify,
  on,
  type Queryable,
} from "../../mod.ts";
import { checkConsumer } from "../../src/consume/consumer.ts";
import { output, refused, writeModules } from "../cli/_support/hark.ts";
import { Inbox, scratch, test } from "../harness/mod.ts";

const nowhere: Queryable = { query: () => Promise.reject(new Error("no query is expected")) };

class Orders extends Consumer {
  override readonly id: string = "orders";
  override readonly channels: string | string[] = "orders";
  override handle(_notification: Notification, _context: HandlerContext): void {}
}

/** A class like Orders with these fields, as JavaScript without types makes it. */
function withFields(fields: Record<string, unknown>): new (db: Queryable) => Consumer {
  return class Made extends Orders {
    constructor(db: Queryable) {
      super(db);
      for (const [name, value] of Object.entries(fields)) {
        Object.defineProperty(this, name, { value, configurable: true, writable: true });
      }
    }
  };
}

Deno.test("a misspelt option of a class is refused as it is made, with the name that was meant", () => {
  const cases: [field: string, value: unknown, meant: string][] = [
    ["maxAttemps", 3, "maxAttempts"],
    ["maxattempts", 3, "maxAttempts"],
    ["max_attempts", 3, "maxAttempts"],
    ["maxRetries", 3, "maxAttempts"],
    ["concurency", 4, "concurrency"],
    ["tiemout", 100, "timeout"],
    ["pollinterval", 100, "pollInterval"],
    ["channel", "orders", "channels"],
    ["transactionnal", true, "transactional"],
    ["onErrors", () => {}, "onError"],
    ["form", "now", "from"],
    ["rettry", () => "dead", "retry"],
    ["rettry", { initial: 5 }, "retry"],
    ["arround", [() => {}], "around"],
  ];
  for (const [field, value, meant] of cases) {
    assert.throws(() => new (withFields({ [field]: value }))(nowhere), {
      code: "BAD_OPTION",
      message: new RegExp(`^class Made has a member "${field}".*Did you mean ${meant}\\?`),
    }, field);
  }
  class Methods extends Orders {
    onDeadleter(): void {}
  }
  assert.throws(() => new Methods(nowhere), { message: /"onDeadleter".*mean onDeadLetter\?/ });
  class Static extends Orders {
    static readonly maxAttempts = 3;
  }
  assert.throws(() => new Static(nowhere), { message: /maxAttempts as static.*without static/ });
  class Later extends Orders {
    constructor(db: Queryable) {
      super(db);
      (this as unknown as { maxAttemps: number }).maxAttemps = 3;
    }
  }
  assert.throws(() => new Later(nowhere), { message: /mean maxAttempts\?/ });
});

Deno.test("a value of a class's option is checked as it is made", () => {
  const cases: [fields: Record<string, unknown>, message: RegExp][] = [
    [{ concurrency: "4" }, /^concurrency is "4"\. Give a whole number/],
    [{ maxAttempts: 0 }, /^maxAttempts is 0/],
    [{ onFailure: "stop" }, /^onFailure is "stop"/],
    [{ from: null }, /^from is null/],
    [{ retry: { inital: 5 } }, /no option "inital"\. Did you mean initial\?/],
    [{ onError: "log" }, /^onError is "log"\. Give a function/],
    [{ channels: [""] }, /^channel "" has no characters/],
  ];
  for (const [fields, message] of cases) {
    assert.throws(() => new (withFields(fields))(nowhere), { name: "HarkError", message });
  }
});

Deno.test("a method where an option is no function is refused as the object is made", () => {
  class Predicate extends Orders {}
  Object.defineProperty(Predicate.prototype, "filter", { value: () => true });
  assert.throws(() => new Predicate(nowhere), {
    code: "BAD_OPTION",
    message: /^filter was given (a|the) function.*, not an object of options/,
  });
});

Deno.test("a class between gives its options to those below it, which may set others", () => {
  abstract class Careful extends Consumer {
    override readonly maxAttempts: number = 5;
    override readonly onFailure = "block";
  }
  class Mail extends Careful {
    override readonly id = "mail";
    override readonly channels = "mail";
    override readonly maxAttempts = 3;
    override handle(): void {}
  }
  const { id, maxAttempts, onFailure } = new Mail(nowhere);
  assert.deepEqual({ id, maxAttempts, onFailure }, {
    id: "mail",
    maxAttempts: 3,
    onFailure: "block",
  });
  checkConsumer(new Mail(nowhere));
});

Deno.test("the compiler refuses an option of a wrong type in a class", () => {
  class Typed extends Orders {
    // @ts-expect-error a number
    override readonly concurrency = "4";
  }
  assert.throws(() => new Typed(nowhere), { code: "BAD_OPTION" });
});

Deno.test("what is a class's own is not taken for a misspelt option", () => {
  class Own extends Orders {
    handled = 0;
    round = 1;
    readonly cache = new Map<string, number>();
    #maxAttemps = 1;
    readonly logger = console;
    release(): number {
      return this.#maxAttemps + this.handled;
    }
  }
  assert.equal(new Own(nowhere).release(), 1);
});

Deno.test("a consumer shows what it runs with", () => {
  class Four extends Orders {
    override readonly concurrency: number = 4;
  }
  const given = { id: "other", channels: ["x"], concurrency: 8, maxAttempts: 3 };
  const four = new Four(nowhere, given);
  const plain = new Consumer(nowhere, { ...given, handle() {} });
  for (const { id, channels, concurrency, maxAttempts, lease } of [four, plain]) {
    assert.deepEqual({ id, channels, concurrency, maxAttempts }, given);
    assert.equal(lease, undefined);
  }
  assert.equal(new Four(nowhere).concurrency, 4);
  class Accessor extends Orders {
    constructor(db: Queryable, options?: ConsumerOptions) {
      super(db, options);
      Object.defineProperty(this, "concurrency", { get: () => 4, configurable: true });
    }
  }
  assert.deepEqual([new Accessor(nowhere, given).concurrency, new Accessor(nowhere).concurrency], [
    8,
    4,
  ]);
  assert.equal(new Four(nowhere).id, "orders");
  assert(four instanceof Four && four instanceof Consumer);
});

Deno.test("both handlers are refused under the consumer's own id", () => {
  const both = { id: "a", channels: "c", handle() {}, handleBatch() {} };
  assert.throws(() => new Consumer(nowhere, both), { message: /^consumer "a" has both/ });
  class Both extends Orders {
    override handleBatch(): void {}
  }
  assert.throws(() => checkConsumer(new Both(nowhere)), { message: /^consumer "orders" has both/ });
});

test("hooks that are methods of a class are called, on the consumer", async ({ url, use, sql }) => {
  const db = use(await connect(url));
  const heard = new Inbox<string>();
  class Hooked extends Orders {
    readonly #name = "mine";
    override readonly maxAttempts = 2;
    override readonly retry = { initial: 0 };
    override handle(_: Notification, { signal }: HandlerContext): void {
      throw new Error(`broken ${signal.aborted}`);
    }
    override onError(error: unknown): void {
      heard.push(`${this.#name}: ${(error as Error).message}`);
    }
    override onDeadLetter = (_: unknown, { id }: Notification) => heard.push(`dead ${id}`);
  }
  await notify(db, "orders", {});
  await new Hooked(db).drain();
  assert.deepEqual(heard.items, ["mine: broken false", "mine: broken false", "dead 1"]);
  assert.equal((await sql("select attempts from hark.dead"))[0]!.attempts, 2);
});

const placed = channel<{ id: number }, "orders.placed">("orders.placed");
const lost = channel<{ id: number }, "orders.lost">("orders.lost");

test("a class has its handlers by channel as a field, and its channels follow from them", async ({ url, use }) => {
  const db = use(await connect(url));
  const heard: string[] = [];
  class Mail extends Consumer {
    override readonly id: string = "mail";
    readonly #greeting = "hello";
    override handle: Handler = on(placed, ({ id }) => heard.push(`${this.#greeting} ${id}`))
      .on(lost, ({ id }) => heard.push(`lost ${id}`));
  }
  assert.deepEqual(new Mail(db).channels, ["orders.placed", "orders.lost"]);
  await placed.notify(db, { id: 1 });
  await lost.notify(db, { id: 2 });
  assert.equal(await new Mail(db).drain(), 2);
  assert.deepEqual(heard, ["hello 1", "lost 2"]);

  class Only extends Mail {
    override readonly id = "only";
    override readonly channels = [lost];
  }
  assert.deepEqual(new Only(db).channels, [lost]);
  assert.equal(await new Only(db).drain(), 1);
  class Other extends Mail {
    override handle = on(lost, () => 0);
  }
  assert.deepEqual(new Other(db).channels, ["orders.lost"]);
});

Deno.test("a class with handlers by channel is refused if it names a channel without one", () => {
  class Mail extends Consumer {
    override readonly id = "mail";
    override readonly channels = [placed, lost];
    override handle = on(placed, () => {});
  }
  assert.throws(() => checkConsumer(new Mail(nowhere)), {
    code: "BAD_OPTION",
    message: /^channel "orders.lost" has no handler/,
  });
});

test("hark listen lists a class with its handlers by channel as a field", async ({ url, use }) => {
  const folder = use(await scratch());
  await writeModules(folder.path, {
    "mail.ts": `import { channel, Consumer, on } from "@hark/postgres";
     const placed = channel("orders.placed");
     export class Mail extends Consumer { id = "mail"; handle = on(placed, () => {}); }`,
  });
  const listed = await output(
    ["listen", "--list-consumers", join(folder.path, "mail.ts")],
    { url, here: true },
  );
  assert.match(listed, /mail +orders\.placed/);
});

test("hark listen --list-consumers refuses a class with a misspelt or wrong option", async ({ url, use }) => {
  const folder = use(await scratch());
  const classed = (fields: string) =>
    `import { Consumer } from "@hark/postgres";
     export class Mail extends Consumer { id = "mail"; channels = ["a"]; handle() {} ${fields} }`;
  await writeModules(folder.path, {
    "misspelt.ts": classed("maxAttemps = 3;"),
    "wrong.ts": classed(`concurrency = "4";`),
    "both.ts": classed("handleBatch() {}"),
    "size.ts": classed("batchSize = 3;"),
  });
  const cases: [string, RegExp][] = [
    ["misspelt.ts", /class Mail.*"maxAttemps".*Did you mean maxAttempts\?/],
    ["wrong.ts", /class Mail.*concurrency is "4"/],
    ["both.ts", /class Mail.*consumer "mail" has both/],
    ["size.ts", /class Mail.*batchSize is 3/],
  ];
  for (const [file, message] of cases) {
    const args = ["listen", "--list-consumers", join(folder.path, file)];
    await refused(args, 2, message, { url, here: true });
  }
});
