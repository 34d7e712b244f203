/**
 * Finds the typed channels of modules.
 *
 * @module
 */

import { type AsyncApi, asyncApi } from "../channels/asyncapi.ts";
import { type Definition, definitionOf } from "../channels/kind.ts";
import { load, modulesAt, noConsumer } from "./modules.ts";

/**
 * Describes the channels that modules export: by themselves, in arrays, or in objects.
 *
 * @throws {HarkError} `NO_CONSUMER` if a module is missing, cannot be imported or has no channel;
 * `CONFLICT` if two channels have the same name.
 */
export async function describe(places: readonly string[]): Promise<AsyncApi> {
  const found = new Set<Definition>();
  for (const place of places) {
    const { modules } = await modulesAt(place);
    let here = 0;
    for (const url of modules) {
      for (const one of channelsOf(await load(url, place))) {
        found.add(one);
        here++;
      }
    }
    if (here === 0) {
      throw noConsumer(
        `${place} exports no typed channel`,
        'Export what channel() returns: export const paid = channel("orders.paid", Order).',
      );
    }
  }
  return asyncApi(found);
}

function channelsOf(module: Record<string, unknown>): Definition[] {
  return Object.values(module).flatMap((exported) => {
    const one = definitionOf(exported);
    if (one !== undefined) return [one];
    if (typeof exported !== "object" || exported === null) return [];
    return Object.values(exported).flatMap((inside) => definitionOf(inside) ?? []);
  });
}
