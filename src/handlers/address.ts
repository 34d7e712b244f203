/**
 * Which addresses belong to the public internet. A webhook's URL is often another party's choice, and
 * must not reach the machines around this one.
 *
 * @module
 */

/** Ranges of IPv4 that are not public, by the registry of special addresses (RFC 6890). */
const special4: readonly (readonly [first: string, bits: number])[] = [
  ["0.0.0.0", 8],
  ["10.0.0.0", 8],
  ["100.64.0.0", 10], // of carriers
  ["127.0.0.0", 8],
  ["169.254.0.0", 16], // link-local, and the metadata of clouds
  ["172.16.0.0", 12],
  ["192.0.0.0", 24],
  ["192.0.2.0", 24],
  ["192.88.99.0", 24],
  ["192.168.0.0", 16],
  ["198.18.0.0", 15],
  ["198.51.100.0", 24],
  ["203.0.113.0", 24],
  ["224.0.0.0", 3], // multicast, reserved, broadcast
];

/** Ranges inside 2000::/3, which is all that is public of IPv6, that are not public. */
const special6: readonly (readonly [first: string, bits: number])[] = [
  ["2001::", 23],
  ["2001:db8::", 32],
  ["2002::", 16], // 6to4, which may hold any IPv4 address
  ["3fff::", 20],
];

/** Whether an IP address is public. False for what is no address. */
export function isPublic(address: string): boolean {
  const four = bits4(address);
  if (four !== undefined) {
    return !special4.some(([first, bits]) => within(four, bits4(first)!, bits, 32));
  }
  const six = bits6(address);
  if (six === undefined) return false;
  // ::ffff:0:0/96 and 64:ff9b::/96 stand for IPv4 addresses.
  const prefix = six >> 32n;
  if (prefix === 0xffffn || prefix === 0x64_ff9b_0000_0000_0000_0000n) {
    return isPublic(text4(six & 0xffff_ffffn));
  }
  return within(six, bits6("2000::")!, 3, 128) &&
    !special6.some(([first, bits]) => within(six, bits6(first)!, bits, 128));
}

function within(address: bigint, first: bigint, bits: number, all: number): boolean {
  const rest = BigInt(all - bits);
  return address >> rest === first >> rest;
}

function bits4(address: string): bigint | undefined {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(address)?.slice(1).map(Number);
  if (parts === undefined || parts.some((part) => part > 255)) return undefined;
  return parts.reduce((sum, part) => sum << 8n | BigInt(part), 0n);
}

function text4(bits: bigint): string {
  return [24n, 16n, 8n, 0n].map((shift) => bits >> shift & 255n).join(".");
}

function bits6(address: string): bigint | undefined {
  // A URL writes every form of an address in one: hexadecimal, and the longest zeros as "::".
  const [plain = ""] = address.split("%"); // without the zone
  if (!plain.includes(":") || !URL.canParse(`http://[${plain}]/`)) return undefined;
  const [head = "", tail] = new URL(`http://[${plain}]/`).hostname.slice(1, -1).split("::");
  const parts = (text: string) => text === "" ? [] : text.split(":");
  const [before, after] = [parts(head), parts(tail ?? "")];
  const zeros = tail === undefined ? 0 : 8 - before.length - after.length;
  return [...before, ...Array(zeros).fill("0"), ...after]
    .reduce((sum, part) => sum << 16n | BigInt(`0x${part}`), 0n);
}
