/**
 * Charts as SVG text: bars of one figure over contenders, lines over decades.
 *
 * Owns: how they look. No script, no font of its own, readable on light and dark pages.
 */

const WIDTH = 720;
const BAR = 26;
const LABEL = 190;
const COLOURS: Readonly<Record<string, string>> = {
  Cellaflow: "#2563eb",
  Restate: "#9333ea",
  DBOS: "#059669",
  Temporal: "#d97706",
};
const GREY = "#6b7280";

/** One bar. */
export interface Bar {
  label: string;
  value: number;
}

/** Draws bars from the left; the longest fills the width. */
export function bars(title: string, unit: string, data: readonly Bar[]): string {
  const most = Math.max(...data.map(({ value }) => value), Number.MIN_VALUE);
  const height = 40 + data.length * BAR + 8;
  const rows = data.map(({ label, value }, n) => {
    const y = 40 + n * BAR;
    const length = Math.max(1, (value / most) * (WIDTH - LABEL - 130));
    return [
      text(LABEL - 8, y + 15, label, "end"),
      `<rect x="${LABEL}" y="${y + 3}" width="${length.toFixed(1)}" height="${BAR - 8}" rx="2" fill="${colour(label)}"/>`,
      text(LABEL + length + 6, y + 15, `${shown(value)} ${unit}`),
    ].join("");
  });
  return svg(height, [text(8, 22, title, "start", true), ...rows]);
}

/** One line of a chart over decades. */
export interface Series {
  label: string;
  points: readonly { x: number; y: number }[];
}

/** Draws lines; both axes are logarithmic. */
export function lines(title: string, unit: string, data: readonly Series[]): string {
  const [left, top, width, height] = [80, 44, WIDTH - 200, 220];
  const points = data.flatMap((one) => one.points).filter(({ y }) => y > 0);
  const [x, y] = [decades(points.map((point) => point.x)), decades(points.map((point) => point.y))];
  const px = (value: number): number => left + ((Math.log10(value) - x.from) / (x.to - x.from)) * width;
  const py = (value: number): number => top + height - ((Math.log10(value) - y.from) / (y.to - y.from)) * height;
  const grid: string[] = [];
  for (let n = x.from; n <= x.to; n++) {
    grid.push(
      rule(px(10 ** n), top, px(10 ** n), top + height),
      text(px(10 ** n), top + height + 18, shown(10 ** n), "middle"),
    );
  }
  for (let n = y.from; n <= y.to; n++) {
    grid.push(
      rule(left, py(10 ** n), left + width, py(10 ** n)),
      text(left - 8, py(10 ** n) + 4, shown(10 ** n), "end"),
    );
  }
  const palette = ["#2563eb", "#d97706", "#059669"];
  const drawn = data.map(({ label, points: own }, n) => {
    const ink = palette[n % palette.length];
    const shownPoints = own.filter((point) => point.y > 0);
    const path = shownPoints.map((point) => `${px(point.x).toFixed(1)},${py(point.y).toFixed(1)}`).join(" ");
    const last = shownPoints.at(-1);
    const name = last === undefined ? "" : text(px(last.x) + 8, py(last.y) + 4, label);
    return `<polyline points="${path}" fill="none" stroke="${ink}" stroke-width="2.5"/>${name}`;
  });
  return svg(top + height + 34, [text(8, 22, `${title} (${unit})`, "start", true), ...grid, ...drawn]);
}

function decades(values: readonly number[]): { from: number; to: number } {
  const from = Math.floor(Math.log10(Math.min(...values)));
  return {
    from,
    to: Math.max(from + 1, Math.ceil(Math.log10(Math.max(...values)))),
  };
}

function colour(label: string): string {
  return Object.entries(COLOURS).find(([name]) => label.startsWith(name))?.[1] ?? GREY;
}

function text(x: number, y: number, content: string, anchor = "start", bold = false): string {
  const weight = bold ? ' font-weight="600"' : "";
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}"${weight}>${escaped(content)}</text>`;
}

function rule(x1: number, y1: number, x2: number, y2: number): string {
  return `<line x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}" y2="${y2.toFixed(1)}" stroke="${GREY}" stroke-opacity="0.25"/>`;
}

function svg(height: number, parts: readonly string[]): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" font-family="sans-serif" font-size="13" fill="${GREY}">`,
    ...parts,
    "</svg>\n",
  ].join("\n");
}

/** A figure as people read it. */
export function shown(value: number): string {
  if (value !== 0 && Math.abs(value) < 0.001) return value.toExponential(0);
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString("en-US");
  return String(Number(value.toPrecision(3)));
}

function escaped(content: string): string {
  return content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
