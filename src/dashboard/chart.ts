/**
 * Charts, drawn by the server as SVG: they are there with the first paint, and without a script.
 *
 * @module
 */

import { htm, type Html } from "./html.ts";

/** A point in time. */
export interface Point {
  readonly at: number;
  readonly value: number;
}

/** The most points of a chart: more would not be seen. */
const most = 120;

/** A line over an area. `shown` writes a value for the readout and for screen readers. */
export function chart(
  title: string,
  points: readonly Point[],
  shown: (value: number) => string,
  { width = 240, height = 44, small = false }: {
    readonly width?: number;
    readonly height?: number;
    readonly small?: boolean;
  } = {},
): Html {
  if (points.length < 2) {
    return small ? htm`<span class="dim">-</span>` : htm`<p class="nochart">a moment…</p>`;
  }
  const few = thinned(points);
  const [first, last] = [few[0]!.at, few.at(-1)!.at];
  const top = Math.max(...few.map(({ value }) => value), 1e-9);
  const peak = Math.max(...few.map(({ value }) => value));
  const xy = few.map(({ at, value }) => [
    (at - first) / (last - first || 1) * width,
    height - 1 - Math.max(0, value) / top * (height - 4),
  ]);
  const line = xy.map(([x, y], i) => `${i === 0 ? "M" : "L"}${x!.toFixed(1)} ${y!.toFixed(1)}`)
    .join("");
  const label = `${title}: now ${shown(few.at(-1)!.value)}, at most ${shown(peak)}`;
  // Numbers and words of `shown` only: nothing here comes from a user but `title`, which is escaped.
  const data = JSON.stringify(few.map(({ at, value }) => [at, shown(value)]));
  return htm`
    <svg class="${
    small ? "spark" : "chart"
  }" viewBox="0 0 ${width} ${height}" preserveAspectRatio="none" role="img"
      aria-label="${label}" data-points="${data}">
      <path class="area" d="${line}L${width} ${height}L0 ${height}Z" />
      <path class="line" d="${line}" />
    </svg>
  `;
}

/** The highest of each group of neighbours, so that no peak is lost. */
function thinned(points: readonly Point[]): readonly Point[] {
  if (points.length <= most) return points;
  const size = Math.ceil(points.length / most);
  const few: Point[] = [];
  for (let i = 0; i < points.length; i += size) {
    few.push(points.slice(i, i + size).reduce((a, b) => b.value > a.value ? b : a));
  }
  return few;
}
