import assert from "node:assert/strict";
import { cutProxy, scratch, test, until, within } from "../harness/mod.ts";
import { hark, writeModules } from "./_support/hark.ts";

/** The second worker loads its consumers when the test lets it, by a connection. */
const late = (port: number) =>
  `if (self.name === "w2") {
  using open = await Deno.connect({ hostname: "127.0.0.1", port: ${port} });
  await open.read(new Uint8Array(1));
}
export const sleepless = { id: "c", channels: "c", partitions: 2,
  handle({ payload }) { console.log("handled", payload, self.name); } };
`;

test("a worker whose first connection fails, after the program has reached the database, starts again", async ({ url, sql, use }) => {
  const folder = use(await scratch());
  using gate = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await writeModules(folder.path, { "late.ts": late(gate.addr.port) });
  const address = new URL(url);
  address.search = "";
  const proxy = use(cutProxy(Number(address.port || 5432), address.hostname));
  const child = use(
    hark(["listen", folder.path, "--workers", "2"], { url: proxy.through(address.href) }),
  );
  const waiting = await within(gate.accept(), { what: "the second worker to load its module" });
  proxy.refuse();
  waiting.close();
  await until(() => /w2 ended and starts again/.test(child.stderr), {
    what: "the second worker to have failed",
  });
  proxy.resume();
  const again = await within(gate.accept(), { what: "the second worker to start again" });
  again.close();
  await until(async () => (await sql("select from hark.workers")).length === 2, {
    what: "both workers to serve",
  });
  await sql("select hark.notify('c', '1')");
  await child.line(/^handled 1 w[12]$/);
  child.kill("SIGTERM");
  assert.equal((await child.ended()).code, 0);
});
