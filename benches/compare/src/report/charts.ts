/** Which charts there are: names, what they show, and the SVG. */
import type { Point } from "../growth.js";
import type { Figure } from "../run.js";
import { bars, lines } from "./chart.js";
import type { Summary } from "./summary.js";

/** A chart of the report. */
export interface Chart {
  name: string;
  /** The row that it belongs to, or "growth". */
  row: string;
  alt: string;
  svg: string;
}

/** Row, figure, what it is called, unit. */
const BARS: readonly (readonly [string, Figure, string, string])[] = [
  ["seq_1k", "p50_ms", "One step of 1 KB, one at a time (median; shorter is better)", "ms"],
  ["conc_1k", "steps_per_s", "Steps of 1 KB per second, 64 sessions at once (longer is better)", "/s"],
  ["seq_100k", "p50_ms", "One step of 100 KB (median; shorter is better)", "ms"],
  ["replay_1000", "replay_ms", "Replay of 1,000 steps (shorter is better)", "ms"],
  ["replay_10000", "replay_ms", "Replay of 10,000 steps (shorter is better)", "ms"],
  ["load", "server_peak_mb", "Most memory of the server under load (shorter is better)", "MB"],
  ["load", "disk_rest_ratio", "Bytes on disk for each byte of payload, at rest (shorter is better)", "×"],
  ["idle", "server_rss_mb", "Memory of an idle server (shorter is better)", "MB"],
];
const LINES: readonly (readonly [keyof Point, string, string])[] = [
  ["steps_per_s", "Commits", "steps/s"],
  ["replay_ms", "Replay", "ms"],
  ["server_rss_mb", "Resident memory of the engine", "MB"],
  ["disk_ratio", "Disk for each byte of payload", "×"],
];

/** All charts that the summary has figures for. */
export function charts(summary: Summary): Chart[] {
  return [...barCharts(summary), ...lineCharts(summary)];
}

function barCharts(summary: Summary): Chart[] {
  return BARS.flatMap(([id, figure, title, unit]) => {
    const row = summary.rows.find((one) => one.id === id);
    const data = summary.contenders.flatMap(({ name, label }) => {
      const value = row?.outcomes[name]?.medians[figure];
      return value === undefined ? [] : [{ label, value }];
    });
    return data.length === 0
      ? []
      : [{ name: `${id}-${figure}.svg`, row: id, alt: title, svg: bars(title, unit, data) }];
  });
}

function lineCharts({ growth }: Summary): Chart[] {
  if (growth === undefined) return [];
  return LINES.map(([figure, title, unit]) => {
    const series = (["sessions", "steps"] as const).map((what) => ({
      label: `${what}`,
      points: growth[what].map((point) => ({ x: point.n, y: point[figure] })),
    }));
    return {
      name: `growth-${figure}.svg`,
      row: "growth",
      alt: `${title} over sessions and steps`,
      svg: lines(title, unit, series),
    };
  });
}
