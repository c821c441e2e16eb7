/**
 * Where the matrix kills: every event of every session of an undisturbed run, and the middle of a stream, a step and a
 * guarded step; and what it kills there.
 */
import { type Boundary, type Place, places } from "#sdk/harness/plan.js";

/** What is hit: `freeze` is SIGSTOP, and SIGCONT once another worker holds the session. */
export type Hit = "worker" | "engine" | "both" | "freeze";

export const HITS: readonly Hit[] = ["worker", "engine", "both", "freeze"];

/** One place in one session of an example. */
export interface Point {
  /** Label of the session (see `tree.ts`). */
  session: string;
  place: Place;
}

/** One run with a kill. */
export interface Planned {
  point: Point;
  hit: Hit;
}

/** Every point of an example, from what its undisturbed run left. */
export function pointsOf(sessions: ReadonlyMap<string, readonly Boundary[]>): Point[] {
  return [...sessions].flatMap(([session, seen]) => places(seen).map((place) => ({ session, place })));
}

/** For a person, and for `--points`. */
export function describePoint({ session, place }: Point): string {
  return `${session} ${place.label}`;
}

/** One run for every point and hit. */
export function planOf(points: readonly Point[], hits = HITS): Planned[] {
  return points.flatMap((point) => hits.map((hit) => ({ point, hit })));
}

/**
 * At most `count` of a list, spread evenly over it, the same every time. The list repeats in groups of `group`: the
 * members of a group take turns, or an even step would meet the same hit at every point.
 */
export function sampleOf<T>(all: readonly T[], count: number, group = 1): T[] {
  if (all.length <= count) return [...all];
  const step = all.length / count;
  const at = (n: number): number => {
    const even = Math.floor(n * step);
    return step < group ? even : even - (even % group) + (n % group);
  };
  return Array.from({ length: count }, (_, n) => all[at(n)] as T);
}
