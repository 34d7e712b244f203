/**
 * Signatures by Standard Webhooks 1.0.
 *
 * @see {@link https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md}
 *
 * @module
 */

import { HarkError } from "../errors.ts";

/** The keys that sign. */
export type SigningKeys = readonly CryptoKey[];

/**
 * Reads a secret: `whsec_` and 24 to 64 bytes in base64. White space in the base64 counts for
 * nothing, such as the line break at the end of a file.
 *
 * @param what The option that it is.
 * @param variable The variable of the environment from which it is usually read.
 * @throws {HarkError} `BAD_OPTION`. The message does not show the secret.
 */
export function secretBytes(
  secret: unknown,
  what: string,
  variable?: string,
): Uint8Array<ArrayBuffer> {
  const [, base64] = typeof secret === "string" ? /^whsec_(.+)$/s.exec(secret) ?? [] : [];
  let bytes: Uint8Array<ArrayBuffer> | undefined;
  try {
    if (base64 !== undefined) bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  } catch {
    bytes = undefined; // it is no base64
  }
  if (bytes !== undefined && bytes.length >= 24 && bytes.length <= 64) return bytes;
  if (secret === undefined || secret === null || secret === "") {
    throw new HarkError("BAD_OPTION", `${what} is missing`, {
      remedy: `${
        variable === undefined
          ? "Is it set where it is read from?"
          : `Is the variable set that it is read from, such as ${variable}?`
      } Give "whsec_" and 24 to 64 random bytes in base64, such as openssl rand -base64 32 makes.`,
    });
  }
  const found = typeof secret !== "string"
    ? `is of the type ${typeof secret}`
    : base64 === undefined
    ? "does not begin with whsec_"
    : bytes === undefined
    ? "is no base64 behind whsec_"
    : `has ${bytes.length} bytes`;
  throw new HarkError("BAD_OPTION", `${what} ${found}`, {
    remedy:
      'Give "whsec_" and 24 to 64 random bytes in base64, such as openssl rand -base64 32 makes.',
  });
}

/** Makes keys of secrets. */
export async function signingKeys(
  secrets: readonly Uint8Array<ArrayBuffer>[],
): Promise<SigningKeys> {
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  return await Promise.all(
    secrets.map((bytes) =>
      crypto.subtle.importKey("raw", bytes, algorithm, false, ["sign", "verify"])
    ),
  );
}

/**
 * The header `webhook-signature`: a signature of each key.
 *
 * @param timestamp Seconds since 1970.
 */
export async function signatures(
  keys: SigningKeys,
  id: string,
  timestamp: number,
  body: string,
): Promise<string> {
  const signed = new TextEncoder().encode(`${id}.${timestamp}.${body}`);
  const all = await Promise.all(keys.map(async (key) => {
    const bytes = new Uint8Array(await crypto.subtle.sign("HMAC", key, signed));
    return `v1,${btoa(String.fromCharCode(...bytes))}`;
  }));
  return all.join(" ");
}

/** The most signatures that are looked at. */
const mostSignatures = 10;

/**
 * Whether the header `webhook-signature` has a signature of one of the keys. Each is compared in constant
 * time.
 *
 * @param timestamp Seconds since 1970.
 */
export async function isSigned(
  keys: SigningKeys,
  id: string,
  timestamp: number,
  body: string,
  given: string,
): Promise<boolean> {
  const signed = new TextEncoder().encode(`${id}.${timestamp}.${body}`);
  for (const one of given.split(" ").slice(0, mostSignatures)) {
    const [, base64] = /^v1,([A-Za-z0-9+/]{43}=)$/.exec(one) ?? [];
    if (base64 === undefined) continue;
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    for (const key of keys) if (await crypto.subtle.verify("HMAC", key, bytes, signed)) return true;
  }
  return false;
}
