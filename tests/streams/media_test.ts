import assert from "node:assert/strict";
import { connect } from "../../mod.ts";
import { test, until } from "../harness/mod.ts";
import { Events } from "./_support/serve.ts";
import { serveWritable } from "./_support/writable.ts";

test("texts and bytes are read as they were written, also as events", async (context) => {
  const db = context.use(await connect(context.url));
  const { url } = context.use(serveWritable(db));
  const write = async (path: string, method: string, contentType: string, body: BodyInit) => {
    const response = await fetch(url + path, {
      method,
      headers: { "content-type": contentType },
      body,
    });
    await response.body?.cancel();
    return response.status;
  };
  assert.equal(await write("text", "PUT", "text/plain", "one\n two\r\nevent: x"), 201);
  assert.equal(await write("text", "POST", "text/plain", "\n\nthree"), 204);
  const text = await fetch(`${url}text`);
  assert.equal(text.headers.get("content-type"), "text/plain");
  assert.equal(await text.text(), "one\n two\r\nevent: x\n\nthree");
  const events = context.use(new Events(`${url}text?offset=-1`));
  await until(() => events.all.length === 2);
  assert.deepEqual(events.all.map(({ type }) => type), ["message", "message"]);
  const bytes = new Uint8Array([0, 255, 10, 13, 127]);
  assert.equal(await write("bytes", "PUT", "application/octet-stream", bytes), 201);
  assert.deepEqual(new Uint8Array(await (await fetch(`${url}bytes`)).arrayBuffer()), bytes);
  const live = context.use(new Events(`${url}bytes?offset=-1&live=sse`));
  await until(() => live.all.length >= 2);
  assert.equal((await live.response).headers.get("stream-sse-data-encoding"), "base64");
  assert.equal(live.all[0]!.data, bytes.toBase64());
});
