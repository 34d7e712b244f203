import assert from "node:assert/strict";
import { connect, notifyMany, seek } from "../../mod.ts";
import { postgres, relay } from "../../src/relay/mod.ts";
import { cutProxy, test, until } from "../harness/mod.ts";
import { control } from "../harness/control.ts";
import { install } from "../harness/template.ts";

test("a relay to another PostgreSQL publishes each once and in order, over lost connections and a seek", async ({ url, use, database }) => {
  const name = `${database}_there`;
  await control.sql(`create database ${name}`);
  use({
    [Symbol.asyncDispose]: async () => void await control.sql(`drop database ${name} with (force)`),
  });
  const to = new URL(url);
  to.pathname = `/${name}`;
  await install(to.href);
  const proxy = use(cutProxy(Number(to.port) || 5432, to.hostname));
  const here = use(await connect(url));
  const there = use(await connect(proxy.through(to.href), { listen: false }));
  const looking = use(await connect(to.href, { listen: false }));
  const all = async () =>
    (await looking.query("select key, payload, headers from hark.log order by id")).rows;
  const publish = (from: number) =>
    notifyMany(
      here,
      Array.from({ length: 200 }, (_, i) => ({
        channel: "orders",
        key: `k${i % 7}`,
        payload: from + i,
        headers: { by: "shop" },
      })),
    );
  const make = () => relay(here, { id: "copy", channels: "orders", to: postgres({ db: there }) });
  const out = make();
  const running = out.run();
  await out.ready;
  await publish(0);
  await until(async () => (await all()).length >= 100);
  proxy.refuse();
  await publish(200);
  proxy.resume();
  await publish(400);
  await until(async () => (await all()).length >= 600, { deadline: 20_000 });
  await out.stop();
  await running;
  await seek(here, "copy", "beginning");
  await make().drain();
  const rows = await all();
  assert.equal(rows.length, 600);
  assert.match(rows[0].headers["hark-relayed"], /^hark:.*:1$/);
  const last = new Map<string, number>();
  for (const { key, payload } of rows) {
    assert((last.get(key) ?? -1) < payload, `${key}: ${payload} after ${last.get(key)}`);
    last.set(key, payload);
  }
});
