/**
 * Values as a message shows them.
 *
 * @module
 */

/** The most characters that a message shows of a value. */
const widest = 80;

/** Formats a value for an error message, shortened to 80 characters. Never throws. */
export function show(value: unknown): string {
  let text: string;
  try {
    text = shown(value, 0);
  } catch {
    text = `an object of the kind ${tagOf(value)}`; // a getter or a Proxy of it throws
  }
  return text.length > widest ? `${text.slice(0, widest - 3).toWellFormed()}...` : text;
}

function shown(value: unknown, depth: number): string {
  switch (typeof value) {
    case "string":
      // A long text is cut before it is quoted.
      return JSON.stringify(value.slice(0, 4 * widest));
    case "number":
      return Object.is(value, -0) ? "-0" : String(value);
    case "bigint":
      return `${value}n`;
    case "function":
      return /^class\b/.test(Function.prototype.toString.call(value))
        ? `the class ${value.name || "without a name"}`
        : value.name === ""
        ? "a function"
        : `the function ${value.name}`;
    case "object":
      return value === null ? "null" : shownObject(value, depth);
    default:
      return String(value);
  }
}

function shownObject(value: object, depth: number): string {
  const tag = tagOf(value);
  if (typeof (value as { then?: unknown }).then === "function") return "a promise";
  if (value instanceof Date) {
    return Number.isNaN(value.getTime()) ? "Invalid Date" : value.toISOString();
  }
  if (value instanceof Error) return `${value.name}: ${value.message}`;
  if (value instanceof RegExp) return String(value);
  if (tag === "Map" || tag === "Set") return `a ${tag} of ${(value as Map<unknown, unknown>).size}`;
  if (ArrayBuffer.isView(value)) {
    return `${articled(nameOf(value) ?? tag)} of ${value.byteLength} bytes`;
  }
  if (Array.isArray(value)) {
    if (depth > 2) return "[...]";
    // An item takes at least two characters.
    return `[${value.slice(0, widest / 2).map((one) => shown(one, depth + 1)).join(",")}]`;
  }
  const name = nameOf(value);
  if (name !== undefined && name !== "Object") return articled(name);
  if (depth > 2) return "{...}";
  const fields = Object.keys(value).slice(0, widest / 4).map((key) =>
    `${JSON.stringify(key)}:${shown((value as Record<string, unknown>)[key], depth + 1)}`
  );
  return `{${fields.join(",")}}`;
}

/** What kind of value it is, without anything of its content, which may be secret. */
export function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value === "string") return "text";
  if (typeof value === "function") return "a function";
  if (typeof value !== "object") return `a ${typeof value}`;
  try {
    if (typeof (value as { then?: unknown }).then === "function") return "a promise";
    const name = nameOf(value);
    return name === undefined || name === "Object" ? "an object" : articled(name);
  } catch {
    return "an object";
  }
}

/** The name of the object's class. Undefined for an object without a prototype. */
function nameOf(value: object): string | undefined {
  const name: unknown = Object.getPrototypeOf(value)?.constructor?.name;
  return typeof name === "string" && name !== "" ? name : undefined;
}

function articled(name: string): string {
  return `${/^[AEIO]|^U(?!int|RL)/.test(name) ? "an" : "a"} ${name}`;
}

function tagOf(value: unknown): string {
  return Object.prototype.toString.call(value).slice("[object ".length, -1);
}

/** A number with thousands separators. */
export function numberText(value: number): string {
  return String(value).replace(/\B(?<!\.\d*)(?=(\d{3})+(?!\d))/g, ",");
}

/** A count and its noun: `1 consumer`, `2,000 consumers`. */
export function countText(count: number, what: string): string {
  return `${numberText(count)} ${what}${count === 1 ? "" : "s"}`;
}

/** Bytes: `120 B`, `4.2 MB`. */
export function bytesText(bytes: number): string {
  const names = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < names.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${names[unit]}`;
}

/** The units of durations, each with the duration from which on the next one is used. */
const units: readonly (readonly [limit: number, size: number, name: string])[] = [
  [120_000, 1000, "s"],
  [7_200_000, 60_000, "min"],
  [172_800_000, 3_600_000, "h"],
  [Infinity, 86_400_000, "days"],
];

/** A duration in milliseconds: `0.3 s`, `5.6 min`, `3 h`, `41 days`. */
export function durationText(ms: number): string {
  const [, size, name] = units.find(([limit]) => ms < limit) ?? units.at(-1)!;
  const value = Math.max(0, ms) / size;
  return `${
    value < 9.95 ? value.toFixed(1).replace(/\.0$/, "") : numberText(Math.round(value))
  } ${name}`;
}
