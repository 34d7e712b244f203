/**
 * Curves as SVG: panels side by side with one legend. Axes may be logarithmic. Each system has a
 * line.
 *
 * @module
 */

/** A panel: one set of axes. */
export interface Panel {
  readonly title: string;
  readonly x: Axis;
  readonly y: Axis;
  readonly lines: readonly Line[];
}

/** An axis. */
export interface Axis {
  readonly label: string;
  /**
   * Whether the axis is logarithmic: equal distances are equal ratios. It then shows no values of
   * zero or less.
   */
  readonly log?: boolean;
}

/** A curve. */
export interface Line {
  readonly name: string;
  readonly points: ReadonlyArray<readonly [x: number, y: number]>;
}

// Okabe and Ito's palette, which people with red-green colour blindness can distinguish.
const colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];
const [width, height, left, top, right, bottom] = [460, 320, 70, 34, 20, 46];

/** Draws the panels. A curve of the same name has the same colour in every panel. */
export function picture(title: string, panels: readonly Panel[]): string {
  const names = [...new Set(panels.flatMap(({ lines }) => lines.map(({ name }) => name)))];
  const total = { width: width * panels.length, height: 30 + height + 8 + 18 * names.length };
  const legend = names.map((name, at) => {
    const y = 30 + height + 12 + 18 * at;
    return `<line x1="${left}" x2="${left + 26}" y1="${y}" y2="${y}" stroke="${
      colour(at)
    }" stroke-width="3"/>` + text(left + 34, y + 4, name);
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${total.width} ${total.height}" ` +
    `width="${total.width}" height="${total.height}" font-family="sans-serif" font-size="12">`,
    `<rect width="100%" height="100%" fill="white"/>`,
    text(left, 20, title, "font-size='15' font-weight='bold'"),
    ...panels.map((panel, at) =>
      `<g transform="translate(${width * at} 30)">${drawn(panel, names)}</g>`
    ),
    ...legend,
    "</svg>\n",
  ].join("\n");
}

function drawn({ title, x, y, lines }: Panel, names: readonly string[]): string {
  const points = lines.flatMap((line) => line.points);
  const across = scale(x, points.map(([value]) => value), left, width - right, false);
  const up = scale(y, points.map(([, value]) => value), height - bottom, top, true);
  const parts = [text(left, 18, title, "font-weight='bold'")];
  for (const value of across.ticks) {
    const at = across.at(value);
    parts.push(line(at, top, at, height - bottom));
    parts.push(text(at, height - bottom + 16, short(value), "text-anchor='middle'"));
  }
  for (const value of up.ticks) {
    const at = up.at(value);
    parts.push(line(left, at, width - right, at));
    parts.push(text(left - 6, at + 4, short(value), "text-anchor='end'"));
  }
  parts.push(text((left + width - right) / 2, height - 8, x.label, "text-anchor='middle'"));
  const middle = (top + height - bottom) / 2;
  parts.push(
    text(16, middle, y.label, `text-anchor='middle' transform='rotate(-90 16 ${middle})'`),
  );
  for (const { name, points } of lines) {
    const stroke = colour(names.indexOf(name));
    const path = points.map(([a, b]) => `${across.at(a).toFixed(1)},${up.at(b).toFixed(1)}`);
    parts.push(
      `<polyline points="${path.join(" ")}" fill="none" stroke="${stroke}" stroke-width="2"/>`,
      ...path.map((point) => {
        const [cx, cy] = point.split(",");
        return `<circle cx="${cx}" cy="${cy}" r="3" fill="${stroke}"/>`;
      }),
    );
  }
  return parts.join("\n");
}

function scale(axis: Axis, values: readonly number[], from: number, to: number, rises: boolean) {
  const shown = axis.log ? values.filter((value) => value > 0) : values;
  let [low, high] = [Math.min(...shown), Math.max(...shown)];
  if (!axis.log) [low, high] = [Math.min(0, low), high * 1.05 || 1];
  else if (rises) {
    [low, high] = [10 ** Math.floor(Math.log10(low)), 10 ** Math.ceil(Math.log10(high))];
  }
  if (low === high) high = axis.log ? low * 10 : low + 1;
  const place = axis.log ? Math.log : (value: number) => value;
  const ticks = rises ? (axis.log ? decades(low, high) : steps(low, high)) : [...new Set(values)];
  return {
    ticks,
    at: (value: number) =>
      from + (place(axis.log ? Math.max(low, value) : value) - place(low)) /
        (place(high) - place(low)) * (to - from),
  };
}

function decades(low: number, high: number): number[] {
  const ticks = [];
  for (let at = low; at <= high * 1.001; at *= 10) ticks.push(at);
  return ticks;
}

function steps(low: number, high: number): number[] {
  const size = 10 ** Math.floor(Math.log10((high - low) / 2));
  const step = [1, 2, 5].map((factor) => factor * size).find((one) => (high - low) / one <= 6) ??
    10 * size;
  const ticks = [];
  for (let at = Math.ceil(low / step) * step; at <= high; at += step) ticks.push(at);
  return ticks;
}

function short(value: number): string {
  if (value >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`;
  return value >= 1e4
    ? `${Number((value / 1e3).toPrecision(3))}k`
    : `${Number(value.toPrecision(3))}`;
}

function colour(at: number): string {
  return colours[at % colours.length]!;
}

function line(x1: number, y1: number, x2: number, y2: number): string {
  return `<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}" stroke="#ddd"/>`;
}

function text(x: number, y: number, content: string, attributes = ""): string {
  const safe = content.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  return `<text x="${x}" y="${y}" ${attributes}>${safe}</text>`;
}
