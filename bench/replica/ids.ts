/**
 * Whether readers got what was published.
 *
 * @module
 */

/** Fails unless each published id was seen once, and no other. */
export function checkIds(
  reader: string,
  seen: readonly number[],
  published: readonly number[],
): void {
  const [its, all] = [new Set(seen), new Set(published)];
  const lost = published.filter((id) => !its.has(id));
  const strange = seen.filter((id) => !all.has(id));
  const repeats = seen.length - its.size;
  if (lost.length + strange.length + repeats === 0) return;
  throw new Error(
    `${reader}: of ${published.length} published ids, ${lost.length} were not seen ` +
      `(${lost.slice(0, 5)}), ${repeats} came again, ${strange.length} were never published ` +
      `(${strange.slice(0, 5)})`,
  );
}
