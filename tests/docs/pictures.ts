/**
 * The pictures of the documentation, each drawn from a few lines, readable on light and dark pages.
 *
 * @module
 */

type Tone = "ink" | "soft" | "mark" | "late";

const style = `
    text { font: 14px system-ui, sans-serif; fill: #1f2328 }
    .small { font-size: 12px; fill: #59636e }
    .box { fill: #f6f8fa; stroke: #818b98 }
    .ink { stroke: #1f2328; fill: none } .soft { stroke: #818b98; fill: none }
    .mark { stroke: #0969da; fill: none } .late { stroke: #bc4c00; fill: none }
    .bar { stroke-width: 10; stroke-linecap: round }
    .cell { fill: #ddf4ff; stroke: #0969da }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0f6fc } .small { fill: #9198a1 }
      .box { fill: #151b23; stroke: #656c76 }
      .ink { stroke: #f0f6fc } .soft { stroke: #656c76 }
      .mark { stroke: #4493f8 } .late { stroke: #f0883e }
      .cell { fill: #121d2f; stroke: #4493f8 }
    }`;

function svg(width: number, height: number, title: string, parts: readonly string[]): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">
  <title>${title}</title>
  <style>${style}
  </style>
  <defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
    <path d="M0 0 8 4 0 8z" fill="#818b98"/></marker></defs>
${parts.map((part) => `  ${part}`).join("\n")}
</svg>
`;
}

const escaped = (text: string) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

function words(x: number, y: number, text: string, { small = false, middle = false } = {}): string {
  return `<text x="${x}" y="${y}"${small ? ' class="small"' : ""}${
    middle ? ' text-anchor="middle"' : ""
  }>${escaped(text)}</text>`;
}

function box(x: number, y: number, width: number, height: number, lines: readonly string[]) {
  const first = y + height / 2 + 5 - (lines.length - 1) * 10;
  return [
    `<rect class="box" x="${x}" y="${y}" width="${width}" height="${height}" rx="6"/>`,
    ...lines.map((line, i) => words(x + width / 2, first + i * 20, line, { middle: true })),
  ].join("");
}

function line(from: readonly [number, number], to: readonly [number, number], tone: Tone): string {
  return `<line class="${tone}" x1="${from[0]}" y1="${from[1]}" x2="${to[0]}" y2="${to[1]}"/>`;
}

function arrow(from: readonly [number, number], to: readonly [number, number]): string {
  return line(from, to, "soft").replace("/>", ' marker-end="url(#tip)"/>');
}

function flow(): string {
  const cell = (n: number) => {
    const x = 270 + n * 34;
    return `<rect class="cell" x="${x}" y="80" width="30" height="30" rx="4"/>` +
      words(x + 15, 100, String(n + 1), { middle: true });
  };
  return svg(760, 190, "From a transaction through the log to consumers", [
    box(10, 50, 200, 90, ["one transaction:", "insert into orders …", "notify('orders', …)"]),
    words(110, 160, "publisher, any language", { small: true, middle: true }),
    arrow([212, 95], [262, 95]),
    words(222, 85, "commit", { small: true }),
    ...[0, 1, 2, 3, 4, 5].map(cell),
    words(370, 60, "log", { middle: true }),
    words(370, 135, "kept until cleanup", { small: true, middle: true }),
    arrow([480, 88], [560, 45]),
    arrow([480, 102], [560, 145]),
    box(564, 20, 186, 56, ["consumer “billing”", "position 6, live"]),
    box(564, 116, 186, 56, ["consumer “mail”", "position 2, catching up"]),
  ]);
}

function window(): string {
  const bar = (n: number, name: string, from: number, to: number, tone: Tone, verdict: string) => {
    const y = 50 + n * 36;
    return `<line class="bar ${tone}" x1="${from}" y1="${y}" x2="${to}" y2="${y}"/>` +
      words(14, y + 5, name) + words(590, y + 5, verdict, { small: true });
  };
  return svg(760, 270, "A window lies between two marks", [
    bar(0, "id 1", 130, 210, "soft", "earlier window"),
    bar(1, "id 2", 170, 420, "late", "this window"),
    bar(2, "id 3", 220, 270, "soft", "earlier window"),
    bar(3, "id 4", 350, 450, "mark", "this window"),
    bar(4, "id 5", 400, 560, "soft", "a later window"),
    line([310, 24], [310, 226], "ink"),
    line([500, 24], [500, 226], "ink"),
    words(310, 16, "mark 1", { middle: true }),
    words(500, 16, "mark 2", { middle: true }),
    arrow([100, 240], [560, 240]),
    words(100, 260, "time; a bar begins as the id is drawn and ends as the transaction commits", {
      small: true,
    }),
  ]);
}

/** Every picture, by the name of its file below docs/pictures. */
export const pictures: Readonly<Record<string, string>> = {
  "flow.svg": flow(),
  "window.svg": window(),
};
