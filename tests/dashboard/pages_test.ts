import assert from "node:assert/strict";
import { connect, notify } from "../../mod.ts";
import { test, until } from "../harness/mod.ts";
import { faultsOf } from "./_support/axe.ts";
import { Chromium, chromiumPath } from "./_support/chromium.ts";
import { Page } from "./_support/page.ts";
import { scene } from "./_support/scene.ts";
import { serve } from "./_support/serve.ts";

const looks = [360, 1440].flatMap((width) => [false, true].map((dark) => ({ width, dark })));

test("pages are whole, plain and live at each size and in each colour, by mouse and by keyboard", {
  ignore: chromiumPath === undefined,
  timeout: 300_000,
}, async ({ url, use, sql, t }) => {
  const db = use(await connect(url, { poolSize: 8 }));
  const { ids } = use(await scene(db));
  const { origin } = use(serve(db, { authorize: () => ({ name: "ada", role: "operate" }) }));
  const page = use(await Page.open(use(await Chromium.start())));

  const screens = {
    overview: ["/", "attention"],
    consumers: ["/consumers", "customers-search"],
    consumer: ["/consumer?name=mail", "smtp: connection refused"],
    log: ["/log?show=payload", "ada@example.org"],
    notification: [`/notification?id=${ids.behind}`, `Notification ${ids.failing} holds its key`],
    change: [`/notification?id=${ids.change}&show=payload`, "Basel"],
    dead: ["/dead", "out of stock: order"],
    letters: ["/dead?consumer=partner", "All shown"],
    watches: ["/watches", "as defined"],
    later: ["/later", "daily-report"],
    relays: ["/relays", "no server answers at 10.0.0.7"],
    inbox: ["/relays?inbox=payments-in", "payments.card"],
    workers: ["/workers", "NOTIFY"],
    server: ["/server", "payments"],
    audit: ["/audit", "pause"],
    sure: ["/sure?act=discard&consumer=partner&kind=dead&all=1", "19 dead letters"],
    seek: ["/seek?name=billing&to=beginning", "60 again"],
    replay: ["/replay?name=billing&from=1", "handle 60 again"],
    anew: [`/anew?consumer=partner&id=${ids.dead}`, "The original stays"],
  };
  for (const [name, [path, words]] of Object.entries(screens)) {
    await t.step(name, async () => {
      await page.goto(`${origin}${path}`);
      await page.says(words!);
      for (const look of looks) {
        await page.show(look);
        assert.deepEqual(await faultsOf(page), [], `${name} at ${JSON.stringify(look)}`);
        const over = await page.evaluate(
          "document.documentElement.scrollWidth - document.documentElement.clientWidth",
        );
        assert.ok(over <= 0, `${name} is ${over} px too wide at ${look.width} px`);
      }
      assert.match(await page.evaluate("document.title"), / · Hark$/);
      assert.deepEqual(page.faults, []);
    });
  }
  await page.show({ width: 1440, dark: false });

  await t.step("a page tells at once what happens, and keeps the focus", async () => {
    await page.goto(`${origin}/log`);
    await page.says("live", "#live");
    await page.tabTo('input[name="key"]');
    await page.type("half a wo");
    const id = await notify(db, "refunds", {}, { key: "just now" });
    await page.says("just now", "#log");
    await page.says(String(id), "#log");
    assert.equal(await page.evaluate("document.activeElement.value"), "half a wo");
    await page.click("#live button");
    await page.says("held", "#live");
  });

  /** Follows a link or presses a button, by mouse or by keyboard. */
  const follow = async (way: "mouse" | "keyboard", selector: string) => {
    if (way === "keyboard") await page.tabTo(selector);
    await page.loading(() => way === "mouse" ? page.click(selector) : page.press("Enter"));
  };

  for (const way of ["mouse", "keyboard"] as const) {
    await t.step(`pause and resume, by ${way}`, async () => {
      await page.goto(`${origin}/consumer?name=billing`);
      await follow(way, 'form:has([value="pause"]) button');
      await page.says('"billing" is paused', ".message");
      const paused = "select from hark.consumers where name = 'billing' and paused_at is not null";
      assert.equal((await sql(paused)).length, 1);
      await follow(way, 'form:has([value="resume"]) button');
      await page.says('"billing" is resumed', ".message");
      assert.equal((await sql(paused)).length, 0);
    });

    await t.step(`retry all that match, by ${way}`, async () => {
      await page.goto(`${origin}/dead`);
      await follow(way, 'a[href*="act=retry"][href*="out"]');
      await page.says("8 dead letters");
      await follow(way, "main button");
      await page.says('8 notifications of "partner" are tried at once', ".message");
      // They fail again.
      await until(async () =>
        (await sql("select from hark.dead where error like 'out%'")).length === 8
      );
    });

    await t.step(`seek with a preview, by ${way}`, async () => {
      await page.goto(`${origin}/consumer?name=billing`);
      if (way === "mouse") await page.click('input[name="to"]');
      else await page.tabTo('input[name="to"]');
      await page.type("beginning");
      await page.loading(() =>
        way === "mouse" ? page.click('form:has([name="to"]) button') : page.press("Enter")
      );
      await page.says(/handle \d+ again, and never see 0 that/);
      await follow(way, "main button");
      await page.says('"billing" was moved to beginning', ".message");
    });

    await t.step(`edit and publish anew, by ${way}`, async () => {
      await page.goto(`${origin}/anew?consumer=partner&id=${ids.dead}`);
      if (way === "mouse") await page.click("textarea");
      else await page.tabTo("textarea");
      await page.type(`{"id":1,"city":"Basel","by":"${way}"}`);
      await follow(way, "main button");
      await page.says("Published anew as notification", ".message");
      const [anew] = await sql(
        "select channel, key, headers from hark.log where payload ->> 'by' = $1",
        [way],
      );
      assert.equal(anew!.channel, "orders");
      assert.deepEqual(anew!.headers, { source: "shop", anewOf: ids.dead });
      assert.equal((await sql("select from hark.dead where id = $1", [ids.dead])).length, 1);
    });
  }

  await t.step("discard the chosen, by mouse", async () => {
    await page.goto(`${origin}/dead?consumer=partner&error=said`);
    await page.click('input[name="id"]');
    await page.loading(() => page.click('button[value="discard"]'));
    await page.says('1 notification of "partner" was discarded', ".message");
    assert.equal((await sql("select from hark.dead where error like '%said%'")).length, 10);
  });

  await t.step("all of it stands in the audit, with the person", async () => {
    await page.goto(`${origin}/audit`);
    for (const act of ["pause", "resume", "retry", "discard", "seek", "publish"]) {
      await page.says(new RegExp(`\\bada\\s+${act}\\b`), "#acts");
    }
    assert.deepEqual(page.faults, []);
  });
});
