/**
 * Whether steps get slower: the figures.
 *
 * Owns: their definitions. Never: runs anything.
 *
 * Invariants:
 * - F1 the first and the last tenth of the laps are compared, by their medians, within one run.
 * - F2 of several runs the one with the middle ratio is told: neither the luckiest nor the unluckiest.
 */
import type { Lap } from "./agents.js";

/** Largest ratio that counts as flat. */
export const RATIO_MAX = 1.1;

/** One run. */
export interface Slope {
  /** Median of the first tenth, in ms. */
  first: number;
  /** Median of the last tenth, in ms. */
  last: number;
  ratio: number;
}

/** Compares the ends of a run (F1). @throws RangeError for fewer than 10 laps */
export function slopeOf(laps: readonly Lap[], total: number, of: (lap: Lap) => number = (lap) => lap.ms): Slope {
  const tenth = Math.floor(total / 10);
  const within = (from: number, to: number): number[] => laps.filter(({ n }) => n > from && n <= to).map(of);
  const first = median(within(0, tenth));
  const last = median(within(total - tenth, total));
  return { first, last, ratio: last / first };
}

/** Returns the run with the middle ratio (F2). */
export function middle(slopes: readonly Slope[]): Slope {
  const found = [...slopes].sort((a, b) => a.ratio - b.ratio)[Math.floor((slopes.length - 1) / 2)];
  if (found === undefined) throw new RangeError("there is no run to tell of");
  return found;
}

/** Returns the median. @throws RangeError if there are none */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)];
  const lower = sorted[Math.floor((sorted.length - 1) / 2)];
  if (upper === undefined || lower === undefined) throw new RangeError("a tenth of the run has no lap");
  return (upper + lower) / 2;
}

/** Rounds to thousandths. */
export function rounded(value: number): number {
  return Math.round(value * 1_000) / 1_000;
}
