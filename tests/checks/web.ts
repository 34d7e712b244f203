/**
 * What browsers load for the dashboard: the program carries it as the files of web/ make it, and it
 * stays small.
 *
 * @module
 */

import { generateWeb } from "../../web/generate.ts";

/** The most bytes of styles. */
const mostStyles = 8 * 1024;
/** The most bytes of everything, compressed by gzip. */
const most = 45_000;

/** Returns a sentence for each fault; none when all is well. */
export async function checkWeb(): Promise<string[]> {
  const path = new URL("../../src/dashboard/web.json", import.meta.url);
  const made = await generateWeb();
  const { files } = JSON.parse(made) as { files: Record<string, string> };
  const styles = new TextEncoder().encode(files["page.css"]).length;
  const all = new Blob(Object.values(files)).stream().pipeThrough(new CompressionStream("gzip"));
  const size = (await new Response(all).arrayBuffer()).byteLength;
  return [
    ...made === await Deno.readTextFile(path)
      ? []
      : ["src/dashboard/web.json is stale: run `deno task web`"],
    ...styles > mostStyles ? [`the styles have ${styles} bytes, more than ${mostStyles}`] : [],
    ...size > most ? [`browsers load ${size} bytes, more than ${most}`] : [],
  ];
}
