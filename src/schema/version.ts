/**
 * The version of the schema.
 *
 * @module
 */

/**
 * The schema version that this program needs and installs: the release that last changed the SQL. An
 * earlier one is upgraded by {@linkcode migrate}; a later one is refused.
 */
export const schemaVersion = "0.1.0";

/**
 * Compares two versions such as `"0.10.2"`: less than 0 when `a` is earlier, 0 when they are equal, more
 * than 0 when it is later.
 */
export function compareVersions(a: string, b: string): number {
  const [x, y] = [a, b].map((version) => version.split(".").map(Number)) as [number[], number[]];
  for (let i = 0; i < 3; i++) {
    const difference = (x[i] ?? 0) - (y[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** Whether a text is a version as {@linkcode compareVersions} takes it. */
export function isVersion(text: string): boolean {
  return /^\d{1,6}\.\d{1,6}\.\d{1,6}$/.test(text);
}
