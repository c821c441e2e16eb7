/**
 * Where to kill: every boundary of an uncrashed run's ledger, and the middle of a stream, a step and a guarded step.
 *
 * A boundary is the moment at which event n can be seen. The middle of something is a wait after the event before it.
 */
import { type Event, Resolution } from "#sdk/gen/cellaflow/v1/event_pb.js";
import type { Target } from "./account.js";

/** One event of the uncrashed run, as far as the plan looks at it. */
export interface Boundary {
  seq: number;
  /** Ledger time in ms since the Unix epoch. */
  timeMs: number;
  kind: NonNullable<Event["body"]["case"]>;
  /** Step or zone key; empty for events of the session. */
  key: string;
  /** How long what ended here took, in ms; 0 where nothing ended. */
  durationMs: number;
}

/** Where a run is killed. */
export interface Place {
  kind: "boundary" | "stream" | "step" | "guarded";
  /** The event after which it happens. */
  seq: number;
  /** How long after that event can be seen, in ms. */
  waitMs: number;
  /** For people. */
  label: string;
  /** Of a middle: when that began and ended in the uncrashed run, in ms since the Unix epoch. */
  span?: { fromMs: number; toMs: number };
}

/** One run. */
export interface PlannedRun {
  name: string;
  target: Target;
  /** Absent: nothing is killed. */
  place: Place | undefined;
}

/**
 * A stream that is cut is slowed down by {@link STREAM_SLOWER}, so that a busy machine does not miss its middle; its
 * middle is then this much later than in the uncrashed run.
 */
const STREAM_WAIT_FACTOR = 2;

/** How much slower a stream is made that is to be cut; well over twice {@link STREAM_WAIT_FACTOR}. */
export const STREAM_SLOWER = 6;

/** What the plan needs of an event. */
export function boundary(event: Event): Boundary {
  const { body } = event;
  const value = body.value as { stepKey?: string; zoneKey?: string; durationUs?: bigint } | undefined;
  return {
    seq: Number(event.seq),
    timeMs: Number(event.timeMs),
    kind: body.case ?? "sessionStarted",
    key: value?.stepKey ?? value?.zoneKey ?? "",
    durationMs: Number(value?.durationUs ?? 0n) / 1_000,
  };
}

/** Says in words what a boundary is. */
export function describe(of: Pick<Boundary, "kind" | "key">): string {
  const words = of.kind.replace(/([A-Z])/g, " $1").toLowerCase();
  return of.key === "" ? words : `${words} ${of.key}`;
}

/** Every place of a run: its boundaries, then the middles. */
export function places(boundaries: readonly Boundary[]): Place[] {
  const at = boundaries.map(
    (one): Place => ({ kind: "boundary", seq: one.seq, waitMs: 0, label: `${one.seq}: ${describe(one)}` }),
  );
  return [...at, ...middles(boundaries)];
}

function middles(boundaries: readonly Boundary[]): Place[] {
  const zone = longest(boundaries.filter((one) => one.kind === "zoneCommitted"));
  const entered = boundaries.find((one) => one.kind === "zoneEntered" && one.key === zone?.key);
  const guarded = new Set(boundaries.filter((one) => one.kind === "guardIntent").map((one) => one.key));
  const intent = boundaries.find((one) => one.kind === "guardIntent");
  const outcome = boundaries.find((one) => one.kind === "stepCompleted" && one.key === intent?.key);
  const step = longest(boundaries.filter((one) => one.kind === "stepCompleted" && !guarded.has(one.key)));
  const before = boundaries.findLast((one) => step !== undefined && one.seq < step.seq);
  const found: Place[] = [];
  if (entered && zone) {
    const stream = middle("stream", entered, entered.timeMs, zone);
    found.push({ ...stream, waitMs: stream.waitMs * STREAM_WAIT_FACTOR });
  }
  if (before && step) found.push(middle("step", before, step.timeMs - step.durationMs, step));
  if (intent && outcome) found.push(middle("guarded", intent, intent.timeMs, outcome));
  return found;
}

/** Half way between a start and the event that ended it, as a wait after the event `after`. */
function middle(kind: Place["kind"], after: Boundary, startMs: number, end: Boundary): Place {
  const half = (startMs + end.timeMs) / 2 - after.timeMs;
  const span = { fromMs: startMs, toMs: end.timeMs };
  return { kind, seq: after.seq, waitMs: Math.max(0, Math.round(half)), label: `in the middle of ${end.key}`, span };
}

function longest(boundaries: readonly Boundary[]): Boundary | undefined {
  return boundaries.reduce<Boundary | undefined>(
    (most, one) => (most === undefined || one.durationMs > most.durationMs ? one : most),
    undefined,
  );
}

/** One run for every place and target. */
export function plan(boundaries: readonly Boundary[]): PlannedRun[] {
  const targets: Target[] = ["agent", "engine", "both"];
  return places(boundaries).flatMap((place) => targets.map((target) => planned(target, place)));
}

/** A handful of runs that still has every kind of kill. */
export function samplePlan(boundaries: readonly Boundary[]): PlannedRun[] {
  const all = places(boundaries);
  const at = (share: number): Place[] => {
    const edges = all.filter((place) => place.kind === "boundary");
    return edges.slice(Math.floor((edges.length - 1) * share)).slice(0, 1);
  };
  const mid = (kind: Place["kind"]): Place[] => all.filter((place) => place.kind === kind);
  const chosen: [Target, Place[]][] = [
    ["agent", [...at(0.5), ...mid("stream"), ...mid("guarded")]],
    ["engine", [...at(0.1), ...mid("stream"), ...at(1)]],
    ["both", [...at(0.75), ...mid("step")]],
  ];
  return chosen.flatMap(([target, of]) => of.map((place) => planned(target, place)));
}

function planned(target: Target, place: Place): PlannedRun {
  const where = place.kind === "boundary" ? `at-${place.seq}` : `in-${place.kind}`;
  return { name: `${target}-${where}`, target, place };
}

/** Whether an event says that the run went on: not a lease, a rollback or what the engine itself noticed. */
export function isProgress(event: Event): boolean {
  switch (event.body.case) {
    case "stepCompleted":
    case "stepFailed":
    case "guardIntent":
    case "zoneEntered":
    case "zoneCommitted":
    case "zoneFailed":
    case "sessionCompleted":
    case "sessionFailed":
      return true;
    case "guardResolved":
      return event.body.value.resolution !== Resolution.UNSPECIFIED;
    default:
      return false;
  }
}

/**
 * How long after a kill the run went on, in ms. A killed agent's run goes on when its first new step begins. An agent
 * whose engine was killed never stopped: it is back when something new is durable.
 */
export function resumedAfterMs(target: Target, killMs: number, event: Event): number {
  const { timeMs, durationMs } = boundary(event);
  const since = target === "engine" ? timeMs : Math.max(killMs, timeMs - durationMs);
  return since - killMs;
}
