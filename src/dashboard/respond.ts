/**
 * Responses, and the headers that keep them safe.
 *
 * @module
 */

import { escaped } from "./html.ts";

/** No code in pages, nothing from elsewhere, in no frame, kept by no cache. */
export function headers(type: string): Record<string, string> {
  return {
    "content-type": type,
    "cache-control": "no-store",
    "content-security-policy":
      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
      "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
  };
}

/** A line of text. */
export function plain(status: number, text: string): Response {
  return new Response(`${text}\n`, { status, headers: headers("text/plain; charset=utf-8") });
}

/** A page that says what is wrong, and what to do. */
export function failure(
  status: number,
  problem: string,
  remedy: string,
  home: string,
  style = "",
): Response {
  const text = `<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Hark</title>
${style === "" ? "" : `<link rel="stylesheet" href="${escaped(style)}">`}</head>
<body><main id="main"><div class="state bad"><h1>${escaped(problem)}</h1><p>${
    escaped(remedy)
  }</p></div>
<p><a href="${escaped(home)}">Overview</a></p></main></body></html>`;
  return new Response(text, { status, headers: headers("text/html; charset=utf-8") });
}
