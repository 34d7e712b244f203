/**
 * The whole story on a throwaway server: publishing without a consumer, a consumer that starts, a
 * notification that keeps failing, two workers that share the work, and writes that happen exactly
 * once.
 *
 *     deno task demo
 *
 * Each step is verified. The exit code is 1 if Hark does not do what it says.
 */
import {
  connect,
  Consumer,
  consumerDetails,
  type ConsumerOptions,
  consumers,
  type Database,
  deadLetters,
  migrate,
  type Notification,
  notify,
  notifyMany,
  retry,
} from "@hark/postgres";
import { type EmbeddedServer, startEmbedded } from "@hark/postgres/embedded";

const colour = Deno.stdout.isTerminal() && !Deno.noColor;
const begun = performance.now();

function say(words: string): void {
  console.log(colour ? `\n\x1b[1m${words}\x1b[0m` : `\n${words}`);
}

/** Prints what was verified, or ends the demo if it does not hold. */
function verify(what: string, holds: boolean): void {
  if (!holds) throw new Error(`not as promised: ${what}`);
  console.log(colour ? `   \x1b[32mok\x1b[0m ${what}` : `   ok ${what}`);
}

/** Waits until a condition holds. Ends the demo if it does not hold within 20 s. */
async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const end = performance.now() + 20_000;
  while (!await holds()) {
    if (performance.now() > end) throw new Error(`still waiting after 20 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

type Order = { id: number; step?: string };

/** The notifications that were handled, in the order in which they were handled. */
class Seen {
  readonly all: Notification<Order>[] = [];

  readonly handle = (notification: Notification<Order>): void => {
    const { id, key, payloadText, isReplay } = notification;
    console.log(`   ${isReplay ? "replay" : "live  "} #${id} ${key} ${payloadText}`);
    this.all.push(notification);
  };

  get ids(): string {
    return this.all.map(({ payload }) => payload.id).join(" ");
  }

  async atLeast(count: number): Promise<void> {
    await until(`${count} are handled`, () => this.all.length >= count);
  }
}

/** Starts a consumer that runs until it is stopped. */
function start(db: Database, options: ConsumerOptions<Order>): { stop(): Promise<void> } {
  const consumer = new Consumer<Order>(db, options);
  const running = consumer.run();
  running.catch(() => {}); // stop() reports the error
  return {
    async stop() {
      await consumer.stop();
      await running;
    },
  };
}

const billing = { id: "billing", channels: "orders" };

async function missed(db: Database): Promise<void> {
  say("1. Four orders while no consumer runs: one is rolled back, one commits late");
  await notify(db, "orders", { id: 1 }, { key: "ada" });
  await db.transaction(async (tx) => {
    await notify(tx, "orders", { id: 2 }, { key: "bob" });
    throw new Error("bob has changed his mind");
  }).catch((error) => console.log(`   rolled back: ${error.message}`));
  await db.transaction(async (tx) => {
    await notify(tx, "orders", { id: 3 }, { key: "cy" });
    await notify(db, "orders", { id: 4 }, { key: "dee" });
    console.log("   order 4 was published after order 3 and committed before it");
  });

  say('2. The consumer "billing" starts: first the orders it missed, then live ones');
  const seen = new Seen();
  const running = start(db, { ...billing, handle: seen.handle });
  await seen.atLeast(3);
  verify("each committed order came once", seen.ids === "1 3 4");
  verify("marked as replays", seen.all.every(({ isReplay }) => isReplay));
  await notify(db, "orders", { id: 5 }, { key: "ada" });
  await seen.atLeast(4);
  verify("then live", seen.ids === "1 3 4 5" && seen.all[3]?.isReplay === false);
  await running.stop();

  say("3. It stops, an order is published, it starts again: it continues where it was");
  await notify(db, "orders", { id: 6 }, { key: "bob" });
  const again = new Seen();
  const handled = await new Consumer(db, { ...billing, handle: again.handle }).drain();
  verify("only the order it missed", handled === 1 && again.ids === "6");
}

async function failing(db: Database): Promise<void> {
  say("4. One order fails three times: it delays its own key, and no other");
  let paper = false;
  const seen = new Seen();
  const running = start(db, {
    ...billing,
    maxAttempts: 3,
    retry: { initial: 400 },
    handle(notification) {
      if (notification.payload.id === 7 && !paper) throw new Error("the printer is out of paper");
      seen.handle(notification);
    },
    onError: (error, { payload, attempt }) =>
      console.log(`   failed #${payload.id}, attempt ${attempt}: ${(error as Error).message}`),
  });
  await until("it serves", async () => (await consumers(db))[0]?.serving === true);
  await notifyMany(
    db,
    [[7, "ada"], [8, "ada"], [9, "bob"], [10, "cy"]].map(([id, key]) => (
      { channel: "orders", key: String(key), payload: { id } }
    )),
  );
  await seen.atLeast(3);
  verify(
    "other keys were not delayed; ada's next order came after order 7 was given up",
    seen.ids === "9 10 8",
  );
  const dead = async () => await deadLetters(db, { consumer: "billing" });
  await until("the dead letter is stored", async () => (await dead()).length > 0);
  const [letter] = await dead();
  verify(
    `order 7 is a dead letter, with its error: ${letter?.error}`,
    (letter?.payload as Order).id === 7 && letter?.attempts === 3,
  );

  say("5. The printer has paper: the dead letter is retried");
  paper = true;
  await retry(db, "billing", { all: true });
  await seen.atLeast(4);
  await running.stop();
  verify("order 7 is printed", seen.ids === "9 10 8 7");
  const [status] = await consumers(db);
  verify(
    "nothing is unread, waiting or dead",
    status?.unread === 0 && status.waiting === 0 && status.dead === 0,
  );
}

async function shared(url: string, db: Database): Promise<void> {
  say("6. Two workers share a consumer of four partitions; one stops halfway");
  const handled: { worker: string; key: string; step: number }[] = [];
  const worker = async (name: string) => {
    const db = await connect(url);
    const { stop } = start(db, {
      id: "packing",
      channels: "parcels",
      partitions: 4,
      async handle({ key, payload }) {
        await new Promise((resolve) => setTimeout(resolve, 15));
        handled.push({ worker: name, key: key!, step: payload.id });
      },
    });
    return { stop: () => stop().finally(() => db.close()) };
  };
  const first = await worker("first");
  const second = await worker("second");
  await until("each serves two", async () => {
    const packing = (await consumers(db)).find(({ consumer }) => consumer === "packing");
    if (packing === undefined) return false;
    const { workerList } = await consumerDetails(db, "packing");
    return workerList.map(({ partitions }) => partitions.length).join() === "2,2";
  });
  console.log("   each worker serves two partitions; each key belongs to one of them");

  const keys = ["ada", "bob", "cy", "fay", "gus", "hal", "ned"];
  const steps = [1, 2, 3, 4, 5, 6, 7, 8];
  const all = keys.length * steps.length;
  await notifyMany(
    db,
    steps.flatMap((id) => keys.map((key) => ({ channel: "parcels", key, payload: { id } }))),
  );
  const by = (name: string) => handled.filter(({ worker }) => worker === name).length;
  await until("both are at work", () => by("first") > 4 && by("second") > 4);
  await second.stop();
  console.log(`   the second worker has stopped after ${by("second")} steps, the first continues`);
  await until("all are handled", () => handled.length >= all);
  await first.stop();
  for (const key of keys) {
    const its = handled.filter((one) => one.key === key);
    const way = its.map(({ worker, step }) => `${step}${worker === "first" ? "" : "'"}`).join(" ");
    console.log(`   ${key.padEnd(4)} ${way}`);
  }
  console.log("        (' by the second worker)");
  verify(`all ${all} steps were handled, none twice`, handled.length === all);
  verify(
    "each key in order, across both workers",
    keys.every((key) =>
      handled.filter((one) => one.key === key).map(({ step }) => step).join() === steps.join()
    ),
  );
}

async function once(db: Database): Promise<void> {
  say("7. Exactly once: the handler's own writes commit together with the position");
  await db.query("create table account (euros int); insert into account values (0)");
  await notifyMany(db, [1, 2, 3, 4].map((id) => ({ channel: "payments", payload: { id } })));
  let written = 0;
  const ledger = new Consumer<Order>(db, {
    id: "ledger",
    channels: "payments",
    transactional: true,
    retry: { initial: 50 },
    async handle({ payload, attempt }, { tx }) {
      await tx.query("update account set euros = euros + 10");
      written++;
      if (attempt > 1) return;
      if (payload.id === 2) throw new Error("an error after the write");
      if (payload.id === 3) await tx.query("select pg_terminate_backend(pg_backend_pid())");
    },
    onError: (error, { payload }) =>
      console.log(`   payment ${payload.id} failed: ${(error as Error).message}`),
  });
  await ledger.drain();
  const { rows } = await db.query("select euros from account");
  verify(
    `four payments of 10, written ${written} times, add up to ${rows[0].euros}`,
    rows[0].euros === 40 && written === 6,
  );
}

async function demo(server: EmbeddedServer): Promise<void> {
  await using db = await connect(server.url);
  const { to } = await migrate(db);
  console.log(
    `   PostgreSQL ${server.version} on port ${server.port}, schema "hark" version ${to}`,
  );
  await missed(db);
  await failing(db);
  await shared(server.url, db);
  await once(db);
}

/** Ctrl-C or the end of the terminal ends the demo, and the server must be removed then too. */
const interrupted = Promise.withResolvers<never>();
const signals: [Deno.Signal, number][] = Deno.build.os === "windows"
  ? [["SIGINT", 130]]
  : [["SIGINT", 130], ["SIGTERM", 143], ["SIGHUP", 129]];
let code = 0;
for (const [signal, itsCode] of signals) {
  Deno.addSignalListener(signal, () => {
    code ||= itsCode;
    // A running consumer then loses its server, which is not worth a message.
    globalThis.addEventListener("unhandledrejection", (event) => event.preventDefault());
    interrupted.reject(new Error(`ended by ${signal}`));
  });
}
interrupted.promise.catch(() => {});

try {
  say("A real PostgreSQL, started for this demo and removed afterwards");
  await using server = await startEmbedded({ ephemeral: true });
  const story = demo(server);
  story.catch(() => {}); // after an interruption its result does not matter
  await Promise.race([story, interrupted.promise]);
  say(
    `All as promised, in ${
      ((performance.now() - begun) / 1000).toFixed(1)
    } s. Now try it yourself:`,
  );
  console.log("   deno task listen                            # in one terminal");
  console.log(`   deno task hark notify orders '{"id":42}'    # in another`);
} catch (error) {
  console.error(`\ndemo: ${error instanceof Error ? error.message : error}`);
  code ||= 1;
}
Deno.exit(code); // even if an interrupted step still waits
