/**
 * Compares two JSON Schemas: does everything that fits the one fit the other?
 *
 * @module
 */

import { isDeepStrictEqual } from "node:util";
import type { JsonSchema } from "./asyncapi.ts";

type Keywords = { readonly [keyword: string]: unknown };

/** Keywords that say nothing of what fits. */
const annotations = new Set([
  "$schema",
  "$id",
  "$defs",
  "definitions",
  "$comment",
  "title",
  "description",
  "default",
  "examples",
  "deprecated",
  "readOnly",
  "writeOnly",
]);

/** Keywords that {@linkcode Comparison} understands. Of all others it knows only whether they differ. */
const understood = new Set([
  ...["$ref", "type", "enum", "const", "anyOf", "oneOf", "allOf"],
  ...["properties", "required", "additionalProperties", "items", "prefixItems"],
  ...["minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"],
  ...["maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"],
]);

const least = ["minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"] as const;
const most = ["maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"] as const;

/**
 * Says why a value of `given` may not fit `taken`, each time with its path. Empty if every value
 * fits. What cannot be told, such as whether one pattern covers another, counts as a misfit.
 */
export function misfits(given: JsonSchema, taken: JsonSchema): string[] {
  return [...new Set(new Comparison(given, taken).of(given, taken, []))];
}

type Path = readonly string[];

class Comparison {
  readonly #given: JsonSchema;
  readonly #taken: JsonSchema;
  /** Pairs that are being compared: a schema may refer to itself. */
  readonly #open = new Map<unknown, Set<unknown>>();

  constructor(given: JsonSchema, taken: JsonSchema) {
    this.#given = given;
    this.#taken = taken;
  }

  of(one: unknown, other: unknown, path: Path): string[] {
    const given = resolved(one, this.#given);
    const taken = resolved(other, this.#taken);
    const open = this.#open.get(given) ?? new Set();
    if (open.has(taken)) return [];
    this.#open.set(given, open.add(taken));
    try {
      return this.#compared(given, taken, path);
    } finally {
      open.delete(taken);
    }
  }

  #compared(given: Keywords | false, taken: Keywords | false, path: Path): string[] {
    if (given === false) return [];
    if (taken === false) return [at(path, "is not taken any more")];
    const options = choices(given);
    if (options !== undefined) return options.flatMap((one) => this.of(one, taken, path));
    const choice = taken.anyOf ?? taken.oneOf;
    if (Array.isArray(choice)) {
      const { anyOf: _, oneOf: __, ...rest } = taken;
      const fits = choice.some((one) => this.of(given, one, path).length === 0);
      return [
        ...fits
          ? []
          : [at(path, `${shortly(given)} fits none of ${choice.map(shortly).join(", ")}`)],
        ...this.#compared(given, rest, path),
      ];
    }
    if (Array.isArray(taken.allOf)) {
      const { allOf, ...rest } = taken;
      return [rest, ...allOf].flatMap((one) => this.of(given, one, path));
    }
    if (Array.isArray(given.allOf)) {
      const { allOf, ...rest } = given;
      const tried = [rest, ...allOf].map((one) => this.of(one, taken, path));
      return tried.some((found) => found.length === 0) ? [] : tried.flat();
    }
    return [
      ...this.#values(given, taken, path),
      ...bounds(given, taken, path),
      ...this.#object(given, taken, path),
      ...this.#array(given, taken, path),
      ...Object.keys(taken)
        .filter((name) => !annotations.has(name) && !understood.has(name))
        // The pattern of a format is the library's own, and changes with it.
        .filter((name) =>
          name !== "pattern" || taken.format === undefined || given.format !== taken.format
        )
        .filter((name) => !isDeepStrictEqual(given[name], taken[name]))
        .map((name) => at(path, `${name} is ${text(taken[name])}, was ${text(given[name])}`)),
    ];
  }

  /** By `type`, `const` and `enum`. */
  #values(given: Keywords, taken: Keywords, path: Path): string[] {
    const values = valuesOf(given);
    const wanted = valuesOf(taken);
    if (wanted !== undefined) {
      const left = values?.filter((one) => !wanted.some((two) => isDeepStrictEqual(one, two)));
      if (left?.length === 0) return [];
      return [
        left === undefined
          ? at(path, `only ${wanted.map(text).join(", ")} is taken, was ${shortly(given)}`)
          : at(path, `${left.map(text).join(", ")} is not taken any more`),
      ];
    }
    const types = typesOf(taken);
    if (types === undefined) return [];
    const had = values?.map(typeOf) ?? typesOf(given);
    const isTaken = (type: string) =>
      types.includes(type) || type === "integer" && types.includes("number");
    return had?.every(isTaken)
      ? []
      : [at(path, `type is ${types.join(" or ")}, was ${had?.join(" or ") ?? "any"}`)];
  }

  #object(given: Keywords, taken: Keywords, path: Path): string[] {
    const had = fieldsOf(given);
    const has = fieldsOf(taken);
    const required = namesOf(given).concat(
      typesOf(given)?.includes("object") === false ? namesOf(taken) : [],
    );
    const others = taken.additionalProperties ?? true;
    const hadOthers = given.additionalProperties ?? true;
    const isObject = typesOf(given)?.includes("object") ?? true;
    return [
      ...namesOf(taken).filter((name) => !required.includes(name))
        .map((name) => at([...path, name], "is required")),
      ...Object.keys(had).flatMap((name) =>
        this.of(had[name], Object.hasOwn(has, name) ? has[name] : others, [...path, name])
      ),
      ...isObject && hadOthers !== false && others !== true
        ? hadOthers === true && others === false
          ? [at(path, "other fields are not taken any more")]
          : this.of(hadOthers, others, [...path, "*"])
        : [],
    ];
  }

  #array(given: Keywords, taken: Keywords, path: Path): string[] {
    const had = Array.isArray(given.prefixItems) ? given.prefixItems : [];
    const has = Array.isArray(taken.prefixItems) ? taken.prefixItems : [];
    const isArray = typesOf(given)?.includes("array") ?? true;
    if (!isArray) return [];
    return [
      ...Array.from(
        { length: Math.max(had.length, has.length) },
        (_, i) =>
          this.of(had[i] ?? given.items ?? true, has[i] ?? taken.items ?? true, [...path, `${i}`]),
      ).flat(),
      ...this.of(given.items ?? true, taken.items ?? true, [...path, "*"]),
    ];
  }
}

/** What a reference leads to. True is a schema without keywords. */
function resolved(schema: unknown, root: JsonSchema): Keywords | false {
  let found = schema;
  for (let steps = 0; steps < 100; steps++) {
    const ref = (found as Keywords | null)?.$ref;
    if (typeof ref !== "string" || !ref.startsWith("#")) break;
    found = ref.split("/").slice(1).reduce<unknown>(
      (inside, name) =>
        (inside as Keywords)
          ?.[decodeURIComponent(name).replaceAll("~1", "/").replaceAll("~0", "~")],
      root,
    );
  }
  if (found === false) return false;
  return typeof found === "object" && found !== null ? found as Keywords : {};
}

/** The schemas of which one applies: by `anyOf`, `oneOf`, or several types. */
function choices(given: Keywords): Keywords[] | undefined {
  const { anyOf, oneOf, ...rest } = given;
  const either = anyOf ?? oneOf;
  if (Array.isArray(either)) return either.map((one) => merged(rest, one));
  if (!Array.isArray(given.type) || given.type.length < 2) return undefined;
  return given.type.map((type) => ({ ...given, type }));
}

function merged(rest: Keywords, one: unknown): Keywords {
  const has = Object.keys(rest).some((name) => !annotations.has(name));
  const part = one === true ? {} : one as Keywords;
  return has ? { allOf: [rest, part] } : part;
}

function bounds(given: Keywords, taken: Keywords, path: Path): string[] {
  const changed = (name: string, isWider: (had: number, has: number) => boolean) => {
    const [had, has] = [given[name], taken[name]];
    const isFine = typeof has !== "number" || typeof had === "number" && !isWider(had, has);
    return isFine ? [] : [at(path, `${name} is ${text(has)}, was ${text(had)}`)];
  };
  return [
    ...least.flatMap((name) => changed(name, (had, has) => had < has)),
    ...most.flatMap((name) => changed(name, (had, has) => had > has)),
  ];
}

function valuesOf(schema: Keywords): readonly unknown[] | undefined {
  if ("const" in schema) return [schema.const];
  return Array.isArray(schema.enum) ? schema.enum : undefined;
}

function typesOf({ type }: Keywords): readonly string[] | undefined {
  return typeof type === "string" ? [type] : Array.isArray(type) ? type : undefined;
}

function typeOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return Number.isInteger(value) ? "integer" : typeof value;
}

function fieldsOf({ properties }: Keywords): Keywords {
  return typeof properties === "object" && properties !== null ? properties as Keywords : {};
}

function namesOf({ required }: Keywords): readonly string[] {
  return Array.isArray(required) ? required : [];
}

function shortly(schema: unknown): string {
  const { type, properties } = schema as Keywords;
  const values = valuesOf(schema as Keywords);
  if (values !== undefined) return values.map(text).join(" or ");
  if (properties !== undefined) return `{ ${Object.keys(properties as Keywords).join(", ")} }`;
  return type === undefined ? "any value" : [type].flat().join(" or ");
}

function text(value: unknown): string {
  return value === undefined ? "none" : JSON.stringify(value);
}

function at(path: Path, what: string): string {
  return path.length === 0 ? what : `${path.join(".")}: ${what}`;
}
