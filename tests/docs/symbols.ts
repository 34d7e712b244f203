/**
 * What the public modules export, as `deno doc` reads it.
 *
 * @module
 */

import config from "../../deno.json" with { type: "json" };

/** A comment; `@default` at the end of a line is part of its text. */
export interface JsDoc {
  readonly doc?: string;
  readonly tags?: readonly { readonly kind: string; readonly value?: string }[];
}

/** The default that a comment names. */
export function defaultOf(jsDoc: JsDoc | undefined): string | undefined {
  return jsDoc?.tags?.find(({ kind }) => kind === "default")?.value ??
    /@default +(.+)$/m.exec(jsDoc?.doc ?? "")?.[1];
}

/** A field or a method of an interface. */
export interface Member {
  readonly name: string;
  readonly jsDoc?: JsDoc;
}

/** A declaration as `deno doc --json` has it, as far as it is used here. */
export interface Declaration {
  readonly kind: string;
  readonly def: {
    readonly properties?: readonly Member[];
    readonly methods?: readonly Member[];
    readonly tsType?: {
      readonly value: readonly { readonly value: { readonly string?: string } }[];
    };
  };
}

/** The first declaration of each name that a public module exports. */
export async function symbols(): Promise<Map<string, Declaration>> {
  const { code, stdout, stderr } = await new Deno.Command("deno", {
    args: ["doc", "--json", ...Object.values(config.exports)],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  const text = new TextDecoder();
  if (code !== 0) throw new Error(text.decode(stderr));
  const { nodes } = JSON.parse(text.decode(stdout)) as {
    nodes: Record<string, {
      symbols: { readonly name: string; readonly declarations: readonly Declaration[] }[];
    }>;
  };
  const all = Object.values(nodes).flatMap(({ symbols }) =>
    symbols.map(({ name, declarations }) => [name, declarations[0]!] as const)
  );
  // What a second module exports again only refers to the first.
  return new Map(all.filter(([, { kind }]) => kind !== "reference"));
}

/** The fields and methods of an interface, in order. */
export function membersOf({ def }: Declaration): readonly Member[] {
  return [...def.properties ?? [], ...def.methods ?? []];
}
