/**
 * The data of an empty database with Hark's schema. Starting from it takes a part of the time that
 * PGlite needs to create a database and to install the schema. It is kept from one run of the tests
 * to the next, in the Cache API of the runtime, which needs no permission. Deno has one; without one
 * each run makes the data anew.
 *
 * @module
 */

import { getLogger } from "../log/logger.ts";
import { messageOf } from "../database/translate.ts";
import { migrate } from "../schema/migrate.ts";
import { loadSchema } from "../schema/script.ts";
import type { PGliteClass, PGliteDatabase } from "./pglite.ts";

const logger = getLogger(["hark", "testing"]);

/** The name of the cache, and what stands before the key in the URL of an entry. */
const name = "hark-testing";
const base = "https://hark.invalid/";
/** How many other versions of Hark or PGlite may have their data there. */
const mostOthers = 3;

/** The data for each class that was given, while the process runs. */
const templates = new WeakMap<PGliteClass, Promise<Blob>>();

/** Starts a database with the schema and nothing else. */
export async function startWithSchema(PGlite: PGliteClass): Promise<PGliteDatabase> {
  const template = templates.get(PGlite);
  if (template !== undefined) return await PGlite.create({ loadDataDir: await template });
  const { promise, resolve, reject } = Promise.withResolvers<Blob>();
  templates.set(PGlite, promise);
  promise.catch(() => templates.delete(PGlite));
  try {
    const { database, data } = await fromCache(PGlite) ?? await anew(PGlite);
    resolve(data);
    return database;
  } catch (error) {
    reject(error);
    throw error;
  }
}

interface Started {
  readonly database: PGliteDatabase;
  readonly data: Blob;
}

async function anew(PGlite: PGliteClass): Promise<Started> {
  const database = await PGlite.create();
  await migrate(database);
  const data = await database.dumpDataDir("none");
  await withCache(async (cache) => {
    // Versions in use at the same time keep their data; of those before them it is of no use any more.
    const others = await cache.keys?.() ?? [];
    for (const one of others.slice(0, -mostOthers)) await cache.delete(one);
    await cache.put(await urlOf(PGlite), new Response(data));
  });
  return { database, data };
}

async function fromCache(PGlite: PGliteClass): Promise<Started | undefined> {
  return await withCache(async (cache) => {
    const url = await urlOf(PGlite);
    const found = await cache.match(url);
    if (found === undefined) return undefined;
    const data = new Blob([await found.arrayBuffer()]);
    try {
      const database = await PGlite.create({ loadDataDir: data });
      await migrate(database); // finds that there is nothing to do
      return { database, data };
    } catch (error) {
      await cache.delete(url);
      throw error;
    }
  });
}

/** A class of another version has another text, and may not be able to read the data. */
async function urlOf(PGlite: PGliteClass): Promise<string> {
  const { digest } = await loadSchema();
  const bytes = new TextEncoder().encode(`${digest} ${PGlite}`);
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return base + hash.toHex();
}

/** Without a cache, or with one that fails, the tests only start later. */
async function withCache<T>(use: (cache: Cache) => Promise<T>): Promise<T | undefined> {
  const { caches } = globalThis as { caches?: CacheStorage };
  if (caches === undefined) return undefined;
  try {
    return await use(await caches.open(name));
  } catch (error) {
    logger.debug("The data of an empty database cannot be kept: {reason}", {
      reason: messageOf(error),
    });
    return undefined;
  }
}
