/**
 * Draws the demo's state as lines of text. Pure: a state in, lines out.
 */
import type { Row } from "./book.js";
import { dollars, grouped, seconds } from "./figures.js";

/** Everything the table shows. */
export interface View {
  rows: readonly Row[];
  totals: Omit<Row, "name">;
  runs: { done: number; planned: number; completed: number };
  kills: number;
  elapsedMs: number;
  engineRssMb: number;
  /** What is being done now, one line each. */
  now: readonly string[];
}

const COLUMNS = ["step", "journaled", "replayed", "tokens", "cost"] as const;

/** The table, `width` columns wide at most. */
export function draw(view: View, width: number): string[] {
  const body = view.rows.map((row) => cells(row.name, row));
  const total = cells("all steps", view.totals);
  const widths = COLUMNS.map((title, at) =>
    Math.max(title.length, ...[...body, total].map((row) => row[at]?.length ?? 0)),
  );
  const line = (row: readonly string[]): string =>
    row.map((cell, at) => (at === 0 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0))).join("  ");
  const rule = "-".repeat(line(COLUMNS).length);
  const { runs } = view;
  return [
    line(COLUMNS),
    rule,
    ...body.map(line),
    rule,
    line(total),
    "",
    `running token bill: ${bill(view.totals)}`,
    `runs ${runs.done}/${runs.planned} (${runs.completed} completed)   kills ${view.kills}   ` +
      `engine ${view.engineRssMb.toFixed(1)} MB   ${seconds(view.elapsedMs)}`,
    ...view.now.map((text) => `  ${text}`),
  ].map((text) => text.slice(0, width).trimEnd());
}

/** What all committed calls cost. */
export function bill(totals: Omit<Row, "name">): string {
  return `${grouped(totals.tokens)} tokens, ${dollars(totals.costNanos)}`;
}

function cells(name: string, row: Omit<Row, "name">): string[] {
  const none = row.tokens === 0 && row.costNanos === undefined;
  return [
    name,
    grouped(row.journaled),
    grouped(row.replayed),
    none ? "-" : grouped(row.tokens),
    none ? "-" : dollars(row.costNanos),
  ];
}
