/**
 * Whether a form comes from a page of this dashboard, and not from another site.
 *
 * @module
 */

const encoder = new TextEncoder();

/** For how long a form can be sent, in ms: a page may stay open overnight. */
const lifetime = 24 * 3_600_000;

/** Signs forms. */
export class Forms {
  readonly #key: Promise<CryptoKey>;

  constructor(secret: string) {
    this.#key = crypto.subtle.importKey(
      "raw",
      encoder.encode(secret),
      { name: "HMAC", hash: "SHA-256" },
      false,
      ["sign", "verify"],
    );
  }

  /** A token for the forms of one visitor. */
  async token(visitor: string, now: number = Date.now()): Promise<string> {
    // By the hour, so that a page that did not change is sent no new token each time.
    const hour = Math.floor(now / 3_600_000);
    const data = encoder.encode(`${hour}\n${visitor}`);
    const signature = await crypto.subtle.sign("HMAC", await this.#key, data);
    return `${hour}.${new Uint8Array(signature).toHex()}`;
  }

  /** Whether a token was made for this visitor, at most a day ago. */
  async check(token: string, visitor: string, now: number = Date.now()): Promise<boolean> {
    const [, hour, signature] = /^(\d{1,9})\.([0-9a-f]{64})$/.exec(token) ?? [];
    if (hour === undefined) return false;
    const age = now - Number(hour) * 3_600_000;
    if (age < 0 || age > lifetime) return false;
    return await crypto.subtle.verify(
      "HMAC",
      await this.#key,
      Uint8Array.fromHex(signature!),
      encoder.encode(`${hour}\n${visitor}`),
    );
  }
}

/**
 * Whether the browser says that a page of the same origin sent the request. Browsers since 2023 send
 * `Sec-Fetch-Site`, which no page can set. Older ones send `Origin`.
 */
export function sameOrigin(request: Request): boolean {
  const site = request.headers.get("sec-fetch-site");
  if (site !== null) return site === "same-origin";
  const origin = request.headers.get("origin");
  const host = request.headers.get("host") ?? new URL(request.url).host;
  return origin !== null && URL.canParse(origin) && new URL(origin).host === host;
}
