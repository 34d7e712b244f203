/**
 * The whole story on a server of its own: read live, go away, miss nothing, come back.
 *
 *     deno task demo
 *
 * Each step is verified; the exit code is 1 if Hark does not do what it says.
 */
import { connect, Consumer, migrate, type Notification, notify, status } from "@hark/postgres";
import { type EmbeddedServer, startEmbedded } from "@hark/postgres/embedded";

const colour = Deno.stdout.isTerminal() && !Deno.noColor;
const begun = performance.now();

function say(words: string): void {
  console.log(colour ? `\n\x1b[1m${words}\x1b[0m` : `\n${words}`);
}

/** Says what is so; ends the demo where it is not. */
function verify(what: string, holds: boolean): void {
  if (!holds) throw new Error(`not as promised: ${what}`);
  console.log(colour ? `   \x1b[32mok\x1b[0m ${what}` : `   ok ${what}`);
}

type Order = { id: number; paid?: boolean };

/** What a consumer has handled, and a way to wait for more. */
class Seen {
  readonly all: Notification<Order>[] = [];
  #arrived = Promise.withResolvers<void>();

  readonly handle = (notification: Notification<Order>): void => {
    const { id, channel, payloadText, isReplay } = notification;
    console.log(`   ${isReplay ? "replay" : "live  "} #${id} ${channel} ${payloadText}`);
    this.all.push(notification);
    this.#arrived.resolve();
    this.#arrived = Promise.withResolvers();
  };

  async atLeast(count: number): Promise<void> {
    const late = setTimeout(
      () => this.#arrived.reject(new Error(`${this.all.length} of ${count} came in 20 s`)),
      20_000,
    );
    while (this.all.length < count) await this.#arrived.promise;
    clearTimeout(late);
  }

  get ids(): string {
    return this.all.map(({ payload }) => payload.id).join(" ");
  }
}

async function demo(server: EmbeddedServer): Promise<void> {
  await using db = await connect(server.url);
  const { to } = await migrate(db);
  console.log(
    `   PostgreSQL ${server.version} on port ${server.port}, schema "hark" version ${to}`,
  );

  say('1. A consumer "billing" listens, and hears what is published while it runs');
  const first = new Seen();
  const billing = new Consumer<Order>(db, {
    id: "billing",
    channels: "orders",
    handle: first.handle,
  });
  const running = billing.run();
  await registered();
  await notify(db, "orders", { id: 1 });
  await notify(db, "orders", { id: 2 });
  await first.atLeast(2);
  verify("both arrived, in order", first.ids === "1 2");
  verify("marked as live", first.all.every(({ isReplay }) => !isReplay));

  say("2. It goes away");
  await billing.stop();
  await running;
  verify("nothing is unread", await unread() === 0);

  say("3. Meanwhile life goes on: three orders, one of them rolled back, one published late");
  await notify(db, "orders", { id: 3 });
  await db.transaction(async (tx) => {
    await notify(tx, "orders", { id: 4 });
    throw new Error("the customer has changed his mind");
  }).catch((error) => console.log(`   rolled back: ${error.message}`));
  const other = await connect(server.url);
  await db.transaction(async (tx) => {
    await notify(tx, "orders", { id: 5 });
    await notify(other, "orders", { id: 6 });
    console.log("   order 6 was published after order 5 and committed before it");
  });
  await other.close();
  verify("three wait, the rolled-back one does not", await unread() === 3);

  say("4. It comes back, and is given what it missed before anything new");
  const second = new Seen();
  const again = new Consumer<Order>(db, {
    id: "billing",
    channels: "orders",
    handle: second.handle,
  });
  const runningAgain = again.run();
  await second.atLeast(3);
  verify("every order that was committed, once", second.ids === "3 5 6");
  verify("marked as replays", second.all.every(({ isReplay }) => isReplay));
  await notify(db, "orders", { id: 7 });
  await second.atLeast(4);
  verify("then live again", second.ids === "3 5 6 7" && second.all[3]?.isReplay === false);

  say("5. A handler that fails is called again; nothing is lost, nothing overtakes");
  await again.stop();
  await runningAgain;
  const attempts: number[] = [];
  const third = new Seen();
  const flaky = new Consumer<Order>(db, {
    id: "billing",
    channels: "orders",
    retry: { initial: 50 },
    handle(notification) {
      if (notification.payload.id === 8) {
        attempts.push(notification.attempt);
        if (attempts.length < 3) throw new Error("the printer is out of paper");
      }
      third.handle(notification);
    },
    onError: (error) => console.log(`   failed: ${(error as Error).message}`),
  });
  const runningFlaky = flaky.run();
  await notify(db, "orders", { id: 8 });
  await notify(db, "orders", { id: 9 });
  await third.atLeast(2);
  await flaky.stop();
  await runningFlaky;
  verify("tried three times, then the next", attempts.join() === "1,2,3" && third.ids === "8 9");
  verify("all is read", await unread() === 0);

  async function unread(): Promise<number> {
    return (await status(db)).consumers.find(({ consumer }) => consumer === "billing")!.unread;
  }

  /** Waits until the consumer serves. */
  async function registered(): Promise<void> {
    const end = performance.now() + 20_000;
    while ((await status(db)).consumers[0]?.serving !== true) {
      if (performance.now() > end) throw new Error("the consumer did not start in 20 s");
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}

/** The server is removed also where Ctrl-C, or the end of the terminal, ends the demo. */
const interrupted = Promise.withResolvers<never>();
const signals: [Deno.Signal, number][] = Deno.build.os === "windows"
  ? [["SIGINT", 130]]
  : [["SIGINT", 130], ["SIGTERM", 143], ["SIGHUP", 129]];
let code = 0;
for (const [signal, itsCode] of signals) {
  Deno.addSignalListener(signal, () => {
    code ||= itsCode;
    // The consumer loses its server then, which is no news.
    globalThis.addEventListener("unhandledrejection", (event) => event.preventDefault());
    interrupted.reject(new Error(`ended by ${signal}`));
  });
}
interrupted.promise.catch(() => {});

try {
  say("A real PostgreSQL, started for this demo and removed after it");
  await using server = await startEmbedded({ ephemeral: true });
  const story = demo(server);
  story.catch(() => {}); // once interrupted, what becomes of it is of no interest
  await Promise.race([story, interrupted.promise]);
  say(`All as promised, in ${((performance.now() - begun) / 1000).toFixed(1)} s. Now yourself:`);
  console.log("   deno task listen                       # in one terminal");
  console.log(`   deno task notify orders '{"id":42}'    # in another`);
} catch (error) {
  console.error(`\ndemo: ${error instanceof Error ? error.message : error}`);
  code ||= 1;
}
Deno.exit(code); // also where an interrupted step still waits
