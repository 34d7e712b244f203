/**
 * Times as people write them.
 *
 * @module
 */

/**
 * Reads a time by ISO 8601. Without an offset it is UTC, so that a command means the same on each
 * machine. Undefined for what is no time.
 */
export function isoTime(text: string): Date | undefined {
  const [, day, clock = "00:00", hours, minutes = "00"] =
    /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?)(?:Z|([+-]\d\d)(?::?(\d\d))?)?)?$/
      .exec(text) ?? [];
  const midnight = new Date(`${day}T00:00Z`);
  // Date takes 30 February for 2 March.
  if (Number.isNaN(midnight.getTime()) || midnight.toISOString().slice(0, 10) !== day) {
    return undefined;
  }
  const time = new Date(`${day}T${clock}${hours === undefined ? "Z" : `${hours}:${minutes}`}`);
  return Number.isNaN(time.getTime()) ? undefined : time;
}
