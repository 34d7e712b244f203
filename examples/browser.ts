/**
 * A live list in the browser, without a framework or a build: open two windows, and type in one. Close
 * the laptop's lid, open it later: the list goes on where it stopped.
 *
 *     DATABASE_URL=postgres://… deno run -P=example examples/browser.ts
 */
import { connect, migrate, notify } from "@hark/postgres";
import { streams } from "@hark/postgres/streams";

const page = `<!doctype html><meta charset="utf-8"><title>Live</title>
<form><input name="text" autofocus autocomplete="off"></form><ul></ul>
<script type="module">
  const [form, list] = [document.querySelector("form"), document.querySelector("ul")];
  form.onsubmit = (event) => {
    event.preventDefault();
    fetch("/say", { method: "POST", body: form.text.value });
    form.reset();
  };
  new EventSource("/live?offset=-1").onmessage = ({ data }) => {
    list.prepend(Object.assign(document.createElement("li"), { textContent: JSON.parse(data) }));
  };
</script>`;

await using db = await connect(Deno.env.get("DATABASE_URL"));
await migrate(db);
const live = streams(db, { channels: "example-live-list", authorize: () => true });

const onListen = ({ port }: Deno.NetAddr) => console.log(`http://127.0.0.1:${port}`);
const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen }, async (request) => {
  const { pathname } = new URL(request.url);
  if (pathname === "/live") return await live(request);
  if (pathname !== "/say" || request.method !== "POST") {
    return new Response(page, { headers: { "content-type": "text/html" } });
  }
  await notify(db, "example-live-list", (await request.text()).slice(0, 200));
  return new Response(null, { status: 204 });
});
await server.finished;
