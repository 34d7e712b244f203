/**
 * Dedupe keys of ids that others have made. They may be longer than a key may be.
 *
 * @module
 */

/** The most characters of a dedupe key. */
const most = 200;

/** The key of a text: itself, or its SHA-256 if it is too long. A part of it could be another one's, too. */
export function dedupeKeyOf(text: string): string {
  return text.length <= most ? text : `sha256:${sha256(text)}`;
}

/** The first 32 bits behind the point of a root of a prime, as the standard has its constants. */
const bitsOf = (root: number) => Math.floor((root % 1) * 2 ** 32);

const primes: number[] = [];
for (let n = 2; primes.length < 64; n++) {
  if (primes.every((prime) => n % prime !== 0)) primes.push(n);
}
const initial = primes.slice(0, 8).map((prime) => bitsOf(Math.sqrt(prime)));
const constants = primes.map((prime) => bitsOf(Math.cbrt(prime)));

const turned = (word: number, by: number) => (word >>> by) | (word << (32 - by));

/**
 * SHA-256 in hexadecimal. `crypto.subtle` has it only as a promise, and not every runtime has node:crypto.
 *
 * @see {@link https://csrc.nist.gov/pubs/fips/180-4/upd1/final}
 */
export function sha256(text: string): string {
  const bytes = new TextEncoder().encode(text);
  const padded = new Uint8Array(Math.ceil((bytes.length + 9) / 64) * 64);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setBigUint64(padded.length - 8, BigInt(bytes.length) * 8n);
  const hash = Uint32Array.from(initial);
  const words = new Uint32Array(64);
  for (let block = 0; block < padded.length; block += 64) {
    for (let i = 0; i < 64; i++) {
      if (i < 16) {
        words[i] = view.getUint32(block + i * 4);
        continue;
      }
      const [far, near] = [words[i - 15]!, words[i - 2]!];
      words[i] = words[i - 16]! + words[i - 7]! +
        (turned(far, 7) ^ turned(far, 18) ^ (far >>> 3)) +
        (turned(near, 17) ^ turned(near, 19) ^ (near >>> 10));
    }
    let [a, b, c, d, e, f, g, h] = hash as unknown as EightWords;
    for (let i = 0; i < 64; i++) {
      const one = h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + ((e & f) ^ (~e & g)) +
        constants[i]! + words[i]!;
      const two = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((word, i) => hash[i]! += word);
  }
  return [...hash].map((word) => word.toString(16).padStart(8, "0")).join("");
}

type EightWords = [number, number, number, number, number, number, number, number];
