/**
 * Takes a picture of each screen of the dashboard, light and dark, narrow and wide, into
 * .hark/pictures/, to look at after a change. The two that the documentation shows go to docs/pictures/.
 *
 *     DATABASE_URL=postgres://… deno task pictures
 *
 * On that server a database is made and dropped.
 *
 * @module
 */

import { join } from "node:path";
import { connect, migrate } from "../../mod.ts";
import { once, PROJECT, withDatabaseName } from "../harness/mod.ts";
import { Chromium } from "./_support/chromium.ts";
import { Page } from "./_support/page.ts";
import { type Scene, scene } from "./_support/scene.ts";
import { serve } from "./_support/serve.ts";

/** The screens, by the names of their pictures. */
function screens({ ids }: Scene): Readonly<Record<string, string>> {
  return {
    overview: "/",
    consumers: "/consumers",
    consumer: "/consumer?name=mail",
    log: "/log?show=payload",
    notification: `/notification?id=${ids.behind}`,
    change: `/notification?id=${ids.change}&show=payload`,
    dead: "/dead",
    letters: "/dead?consumer=partner",
    watches: "/watches",
    later: "/later",
    relays: "/relays",
    inbox: "/relays?inbox=payments-in",
    workers: "/workers",
    server: "/server",
    audit: "/audit",
    seek: "/seek?name=billing&to=beginning",
    anew: `/anew?consumer=partner&id=${ids.dead}`,
  };
}

/** Those in the documentation. */
const shown = ["overview", "notification"];

async function take(url: string): Promise<void> {
  await using db = await connect(url, { poolSize: 8 });
  await migrate(db);
  await using made = await scene(db);
  await using served = serve(db, { authorize: () => ({ name: "ada", role: "operate" }) });
  await using chromium = await Chromium.start();
  await using page = await Page.open(chromium);
  const folder = join(PROJECT, ".hark/pictures");
  await Deno.mkdir(folder, { recursive: true });
  for (const width of [1440, 1100, 360]) {
    for (const dark of [false, true]) {
      await page.show({ width, dark });
      for (const [name, path] of Object.entries(screens(made))) {
        const isShown = width === 1100 && shown.includes(name) && !dark;
        if (width === 1100 && !isShown) continue;
        await page.goto(`${served.origin}${path}`);
        await page.says(/live|Do nothing/);
        if (isShown) {
          const path = join(PROJECT, `docs/pictures/dashboard-${name}.webp`);
          await Deno.writeFile(path, await page.picture("webp"));
        } else {
          const path = join(folder, `${name}-${width}-${dark ? "dark" : "light"}.png`);
          await Deno.writeFile(path, await page.picture("png"));
        }
      }
    }
  }
  console.log(`the pictures are in ${folder}`);
}

if (import.meta.main) {
  const server = Deno.env.get("DATABASE_URL");
  if (!server) {
    console.error(
      "pictures: there is no DATABASE_URL. `deno task dev` starts a server and prints it.",
    );
    Deno.exit(2);
  }
  const name = `hark_pictures_${crypto.randomUUID().slice(0, 8)}`;
  await once(server, `create database ${name}`);
  try {
    await take(withDatabaseName(server, name));
  } finally {
    await once(server, `drop database ${name} with (force)`);
  }
}
