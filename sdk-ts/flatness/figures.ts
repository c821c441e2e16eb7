/**
 * Whether steps get slower: the figures.
 *
 * Owns: their definitions. Never: runs anything.
 *
 * Invariants:
 * - F1 the first and the last tenth of the laps are compared, by their medians, within a run.
 * - F2 of several runs each lap counts as the fastest of its number: what else the machine does only ever adds, and hits
 *   other laps each time; what grows with the length of a session is there in all of them.
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

/** Returns the fastest lap of each number (F2). */
export function fastest(runs: readonly (readonly Lap[])[], of: (lap: Lap) => number = (lap) => lap.ms): Lap[] {
  const laps = new Map<number, Lap>();
  for (const lap of runs.flat()) {
    const known = laps.get(lap.n);
    if (known === undefined || of(lap) < of(known)) laps.set(lap.n, lap);
  }
  return [...laps.values()];
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
