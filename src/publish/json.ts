/**
 * Turns values into JSON text, and refuses what JSON would silently change or leave out.
 *
 * @module
 */

import { show } from "../check.ts";
import { messageOf } from "../database/translate.ts";
import { HarkError } from "../errors.ts";

/**
 * Turns a value into JSON text.
 *
 * @param what Names the value in messages.
 * @param isStored Whether it is for `jsonb`, which does not take every text. By default it is.
 * @throws {HarkError} `BAD_PAYLOAD`, with the place inside the value.
 */
export function jsonText(value: unknown, what: string, isStored: boolean = true): string {
  // JSON.stringify is several times slower if it calls a function for each value. So plain values
  // are looked through first, and only the others are taken apart on the way.
  const json = ofPlain(value);
  return json !== undefined && !(isStored && isUnstorable(json))
    ? json
    : new Strict(what, isStored).textOf(value);
}

function ofPlain(value: unknown): string | undefined {
  try {
    return isPlain(value, 0) ? JSON.stringify(value) : undefined;
  } catch {
    return undefined; // a getter or a Proxy has failed: Strict finds it again and says where
  }
}

/** Values nested deeper than this are left to {@linkcode Strict}, which finds cycles. */
const deep = 500;

/** Whether JSON.stringify certainly keeps a value as it is. */
function isPlain(value: unknown, depth: number): boolean {
  switch (typeof value) {
    case "string":
    case "boolean":
      return true;
    case "number":
      return Number.isFinite(value);
    case "object":
      break;
    default:
      return false;
  }
  if (value === null) return true;
  if (depth > deep) return false;
  if (Array.isArray(value)) {
    if ("toJSON" in value) return false;
    for (let i = 0; i < value.length; i++) if (!isPlain(value[i], depth + 1)) return false;
    return true;
  }
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) {
    return value instanceof Date && value.toJSON === Date.prototype.toJSON &&
      !Number.isNaN(value.getTime());
  }
  if ("toJSON" in value) return false;
  for (const name in value) {
    const inner = (value as Record<string, unknown>)[name];
    if (inner !== undefined && !isPlain(inner, depth + 1)) return false;
  }
  return true;
}

/**
 * JSON.stringify writes U+0000 and unpaired surrogates as escapes, which jsonb refuses. An escape
 * whose backslash is itself escaped is ordinary text.
 */
function isUnstorable(json: string): boolean {
  return /\\u(0000|d[89a-f])/.test(json) &&
    /(?:^|[^\\])(?:\\\\)*\\u(0000|d[89a-f][0-9a-f]{2})/.test(json);
}

/** Writes JSON and knows at each value where it is. */
class Strict {
  readonly #what: string;
  readonly #isStored: boolean;
  /** The objects and arrays around the current value. */
  readonly #around: object[] = [];
  /** Their names or indexes, each within the one before. */
  readonly #names: (string | number)[] = [];

  constructor(what: string, isStored: boolean) {
    this.#what = what;
    this.#isStored = isStored;
  }

  textOf(value: unknown): string {
    try {
      const json = this.#textOf("", value);
      if (json !== undefined) return json;
    } catch (error) {
      if (error instanceof HarkError) throw error;
      if (isTooDeep(error)) {
        this.#refuse("is nested too deeply for JSON", "Give a flatter value.", error);
      }
      this.#refuse(`is not JSON (${firstLine(error)})`, "Give a value that JSON can hold.", error);
    }
    return this.#refuse("is undefined, which is not JSON", "Give null or {}, or leave it out.");
  }

  /** The JSON of a value, or undefined if it is undefined. */
  #textOf(name: string, given: unknown): string | undefined {
    const value = this.#simplified(name, given);
    switch (typeof value) {
      case "undefined":
        if (given === undefined) return undefined;
        return this.#refuse("has a toJSON() that returns undefined, which is not JSON", ofToJSON);
      case "string":
        if (this.#keeps(value)) return JSON.stringify(value);
        return this.#refuse(`is ${show(value)}, ${unstorable}`, removeIt);
      case "number":
        if (Number.isFinite(value)) return JSON.stringify(value);
        return this.#refuse(
          `is ${value}, which is not a JSON number`,
          "Give a number, text or null.",
        );
      case "boolean":
        return String(value);
      case "bigint":
        return this.#refuse(`is ${value}n, which is not JSON`, "Give it as text, or as a number.");
      case "function":
      case "symbol":
        return this.#refuse(
          `is ${show(value)}, which is not JSON`,
          "Give a value that JSON can hold.",
        );
    }
    return value === null ? "null" : this.#textOfObject(value as object);
  }

  /** What toJSON returns, if the value has that. */
  #simplified(name: string, given: unknown): unknown {
    // By its tag: it may come from another realm, where Date is another class.
    if (tagOf(given) === "Date" && Number.isNaN(Number(given))) {
      this.#refuse("is an invalid Date, which is not JSON", "Give a valid Date, or null.");
    }
    if (typeof given !== "object" && typeof given !== "bigint" || given === null) return given;
    const toJSON = this.#try("toJSON", () => (given as { toJSON?: unknown }).toJSON);
    return typeof toJSON === "function"
      ? this.#try("toJSON()", () => toJSON.call(given, name))
      : given;
  }

  #textOfObject(value: object): string {
    if ((JSON as { isRawJSON?(value: unknown): boolean }).isRawJSON?.(value)) {
      return JSON.stringify(value);
    }
    if (this.#around.includes(value)) {
      this.#refuse(
        "is a cycle, which is not JSON: it holds itself",
        "Give a value without cycles.",
      );
    }
    const remedy = Array.isArray(value) ? undefined : lossy(value);
    if (remedy !== undefined) {
      this.#refuse(`is ${show(value)}, which JSON would not keep`, remedy);
    }
    if (value instanceof String || value instanceof Number || value instanceof Boolean) {
      return this.#textOf("", value.valueOf())!;
    }
    this.#around.push(value);
    const json = Array.isArray(value) ? this.#textOfArray(value) : this.#textOfFields(value);
    this.#around.pop();
    return json;
  }

  #textOfArray(values: readonly unknown[]): string {
    const items: string[] = [];
    for (let i = 0; i < values.length; i++) {
      this.#names.push(i);
      const json = this.#textOf(String(i), values[i]);
      if (json === undefined) {
        this.#refuse("is undefined, which JSON would turn into null", "Give null.");
      }
      items.push(json);
      this.#names.pop();
    }
    return `[${items.join(",")}]`;
  }

  #textOfFields(object: object): string {
    const fields: string[] = [];
    for (const name of Object.keys(object)) {
      if (!this.#keeps(name)) this.#refuse(`has the name ${show(name)}, ${unstorable}`, removeIt);
      this.#names.push(name);
      const value = this.#try("its getter", () => (object as Record<string, unknown>)[name]);
      // JSON leaves out a field that is undefined, and reading that field gives undefined again.
      const json = this.#textOf(name, value);
      if (json !== undefined) fields.push(`${JSON.stringify(name)}:${json}`);
      this.#names.pop();
    }
    return `{${fields.join(",")}}`;
  }

  #keeps(text: string): boolean {
    return !this.#isStored || text.isWellFormed() && !text.includes("\0");
  }

  /** Calls a function of the value's own. */
  #try(what: string, call: () => unknown): unknown {
    try {
      return call();
    } catch (error) {
      if (isTooDeep(error)) throw error;
      return this.#refuse(`is not JSON: ${what} failed (${firstLine(error)})`, ofToJSON, error);
    }
  }

  #refuse(problem: string, remedy: string, cause?: unknown): never {
    const place = this.#names.map(step).join("").replace(/^\./, "");
    const short = place.length > 200 ? `${place.slice(0, 197)}...` : place;
    const where = short === "" ? this.#what : `${this.#what} at ${short}`;
    throw new HarkError("BAD_PAYLOAD", `${where} ${problem}`, { remedy, cause });
  }
}

/** A step on the way to a place: `.items`, `[2]`. */
function step(name: string | number): string {
  if (typeof name === "number") return `[${name}]`;
  return /^[\p{ID_Start}_$][\p{ID_Continue}$]*$/u.test(name) ? `.${name}` : `[${show(name)}]`;
}

function firstLine(error: unknown): string {
  return messageOf(error).split("\n", 1)[0]!.slice(0, 200);
}

function isTooDeep(error: unknown): boolean {
  return error instanceof RangeError && /call stack/i.test(error.message);
}

const unstorable = "text that PostgreSQL cannot store";
const removeIt = "Remove U+0000 and unpaired surrogates.";
const ofToJSON = "Let it return a value that JSON can hold.";

/** What to give instead of an object that JSON would empty. Undefined if JSON keeps its fields. */
function lossy(value: object): string | undefined {
  const prototype = Object.getPrototypeOf(value);
  if (prototype === null || Object.getPrototypeOf(prototype) === null) return undefined;
  const tag = tagOf(value);
  if (tag === "String" || tag === "Boolean" || tag === "Number") return undefined;
  if (value instanceof Error) return "Give { name, message } of it, or its text.";
  if (typeof (value as { then?: unknown }).then === "function") return "Await it.";
  if (tag === "Map") return "Give an object or an array of it: Object.fromEntries(map), [...map].";
  if (tag === "Set") return "Give an array of it: [...set].";
  if (tag === "RegExp") return "Give its text: String(regexp).";
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer || tag === "SharedArrayBuffer") {
    return "Give text of it, such as base64, or an array of numbers: [...bytes].";
  }
  if (Object.keys(value).length > 0) return undefined;
  return "Give a plain object, or give its class a toJSON() method.";
}

function tagOf(value: unknown): string {
  return Object.prototype.toString.call(value).slice("[object ".length, -1);
}
