/**
 * The files that the browser loads: styles, a script and an icon.
 *
 * @module
 */

import web from "./web.json" with { type: "json" };

const types: Readonly<Record<string, string>> = {
  css: "text/css; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  svg: "image/svg+xml",
};

const files: Readonly<Record<string, string>> = web.files;

/** The path of a file. It changes with the contents, so that browsers may keep it for ever. */
export function filePath(name: string): string {
  return `/web/${web.digest}/${name}`;
}

/** A file; undefined if there is none. */
export function file(path: string): Response | undefined {
  const [, digest, name = ""] = /^\/web\/(\w+)\/([\w.]+)$/.exec(path) ?? [];
  if (digest !== web.digest || !Object.hasOwn(files, name)) return undefined;
  return new Response(files[name], {
    headers: {
      "content-type": types[name.split(".").at(-1)!]!,
      "cache-control": "public, max-age=31536000, immutable",
      "x-content-type-options": "nosniff",
    },
  });
}
