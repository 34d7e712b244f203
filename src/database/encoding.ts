/**
 * Text of others in a database whose encoding may lack characters of it.
 *
 * @module
 */

import { ascii, storable } from "../visible.ts";
import { sqlState } from "./driver_error.ts";

/**
 * Stores text of others. `store` is given what makes a text storable. If the database's encoding lacks
 * a character, it is called once more, and each character outside ASCII is written as \u043a then.
 */
export async function inItsEncoding<T>(
  store: (writable: (text: string) => string) => Promise<T>,
): Promise<T> {
  try {
    return await store(storable);
  } catch (error) {
    if (sqlState(error) !== "22P05") throw error;
    return await store((text) => ascii(storable(text)));
  }
}
