/**
 * The version of the schema.
 *
 * @module
 */

/**
 * The schema version that this program needs and installs: the release that last changed the SQL.
 * {@linkcode migrate} upgrades an earlier version and refuses a later one.
 */
export const schemaVersion = "0.1.0";

/**
 * Compares two versions such as `"0.10.2"`. The result is below 0 if `a` is earlier, 0 if they are
 * equal, and above 0 if `a` is later.
 */
export function compareVersions(a: string, b: string): number {
  const [x, y] = [a, b].map((version) => version.split(".").map(Number)) as [number[], number[]];
  for (let i = 0; i < 3; i++) {
    const difference = (x[i] ?? 0) - (y[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** Whether a text is a version that {@linkcode compareVersions} accepts. */
export function isVersion(text: string): boolean {
  return /^\d{1,6}\.\d{1,6}\.\d{1,6}$/.test(text);
}
