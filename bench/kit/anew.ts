/** The test of `kept.ts` as on a new machine: nothing is kept. */

await caches.delete("hark-testing");
await import("./kept.ts");
