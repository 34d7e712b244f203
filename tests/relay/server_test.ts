import assert from "node:assert/strict";
import { unfit } from "../harness/nats.ts";

Deno.test("a server of NATS without JetStream is none for the tests, which say why", async () => {
  const answer = async (text: string) => {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr as Deno.NetAddr;
    const served = listener.accept().then(async (one) => {
      await one.write(new TextEncoder().encode(text));
      one.close();
    });
    const reason = await unfit(`nats://127.0.0.1:${port}`);
    await served;
    return reason?.replace(/:\d+/, "");
  };
  assert.equal(await answer('INFO {"jetstream":true,"headers":true}\r\n'), undefined);
  assert.equal(
    await answer('INFO {"headers":true}\r\n'),
    "the server at nats://127.0.0.1 has no JetStream",
  );
  assert.equal(await answer(""), "the server at nats://127.0.0.1 has no JetStream");
});
