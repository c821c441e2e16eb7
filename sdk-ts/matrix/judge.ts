/**
 * Whether a run lost, doubled or hid anything: from its ledgers, its workers' acknowledgement logs and the servers'
 * own counts. Pure.
 *
 * Invariants:
 * - J1 every acknowledged append is in the ledger, at the seq that was acknowledged, about the step that was appended.
 * - J2 every attempt of a guarded step ends in an outcome or is reported as unknown before anything else becomes of it;
 *   none is open when its session ends.
 * - J3 no effect was made more often than once.
 */
import { inspect } from "node:util";
import { type Event, Resolution } from "#sdk/gen/cellaflow/v1/event_pb.js";
import type { Final } from "./final.js";
import type { Effect } from "./world.js";

/** A line of an acknowledgement log about an event. */
export interface CommitLine {
  session: string;
  call: string;
  step: string;
  kind?: string;
  seq: number;
}

/** Acknowledged appends that the ledger lacks (J1), in words. */
export function lostAcks(sessionId: string, events: readonly Event[], lines: readonly CommitLine[]): string[] {
  return lines.flatMap(({ session, call, step, kind, seq }) => {
    if (session !== sessionId || call !== "") return [];
    const body = events[seq - 1]?.body;
    const { stepKey, zoneKey } = (body?.value ?? {}) as { stepKey?: string; zoneKey?: string };
    const there = body?.case !== undefined && (stepKey ?? zoneKey ?? "") === step;
    return there ? [] : [`${sessionId} seq ${seq}: acknowledged ${kind} "${step}", the ledger has ${body?.case}`];
  });
}

/** What became of the guarded attempts of a session (J2). */
export interface Unknowns {
  /** Attempts that were reported as unknown. */
  reported: number;
  /** Attempts of which nobody was told that their outcome was unknown, in words. */
  unreported: string[];
}

interface Attempt {
  attempt: number;
  reported: boolean;
}

/** Follows every guarded attempt of a session that has ended. */
export function unknownsOf(events: readonly Event[]): Unknowns {
  const open = new Map<string, Attempt>();
  const unreported: string[] = [];
  let reported = 0;
  for (const { body, seq } of events) {
    switch (body.case) {
      case "guardIntent": {
        const { stepKey, attempt } = body.value;
        if (open.has(stepKey)) unreported.push(`attempt ${attempt} of "${stepKey}" (seq ${seq}) over an open one`);
        open.set(stepKey, { attempt, reported: false });
        break;
      }
      case "guardUnknown": {
        const attempt = open.get(body.value.stepKey);
        if (attempt !== undefined && !attempt.reported) {
          attempt.reported = true;
          reported += 1;
        }
        break;
      }
      case "guardResolved": {
        const { stepKey, by, resolution } = body.value;
        const attempt = open.get(stepKey);
        // The tool itself may say at once that it did nothing; everybody else has to be told first.
        const told = attempt?.reported === true || (by === "tool" && resolution === Resolution.NOT_APPLIED);
        if (!told) unreported.push(`"${stepKey}" resolved by ${by} (seq ${seq}) before it was reported as unknown`);
        open.delete(stepKey);
        break;
      }
      case "stepCompleted":
      case "stepFailed":
        if (body.value.guarded) open.delete(body.value.stepKey);
        break;
      default:
        break;
    }
  }
  for (const [stepKey, { attempt }] of open) unreported.push(`attempt ${attempt} of "${stepKey}" has no end`);
  return { reported, unreported };
}

/** How often each effect was made beyond once (J3), in words. */
export function duplicates(effects: readonly Effect[]): string[] {
  const counts = new Map<string, number>();
  for (const { server, key } of effects) counts.set(`${server} ${key}`, (counts.get(`${server} ${key}`) ?? 0) + 1);
  return [...counts].flatMap(([effect, count]) => Array.from({ length: count - 1 }, () => `${effect} again`));
}

/** The names that differ from run to run, and what stands for them. */
export type Placeholders = ReadonlyMap<string, string>;

/** A text without what differs from run to run. */
export function withPlaceholders(text: string, names: Placeholders): string {
  let replaced = text;
  for (const [name, placeholder] of names) if (name !== "") replaced = replaced.replaceAll(name, placeholder);
  return replaced;
}

/** A run's end as text, to be compared with another run's: sessions by label, then the effects that were made. */
export function inspectEnd(sessions: ReadonlyMap<string, Final>, names: Placeholders): string {
  const lines = [...sessions]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([label, final]) => `${label}: ${inspect(final, UNABRIDGED)}`);
  return withPlaceholders(lines.join("\n"), names);
}

const UNABRIDGED = {
  depth: Number.POSITIVE_INFINITY,
  maxArrayLength: null,
  maxStringLength: null,
  sorted: true,
  breakLength: 120,
} as const;

/** The effects of a run by name, each once: how often is {@link duplicates}'s business. */
export function inspectEffects(effects: readonly Effect[], names: Placeholders): string {
  const keys = new Set(effects.map(({ server, key }) => withPlaceholders(`${server} ${key}`, names)));
  return [...keys].sort().join("\n");
}

/** The first line in which two texts differ, both sides; empty: they are equal. */
export function firstDifference(expected: string, found: string): string {
  if (expected === found) return "";
  const [left, right] = [expected.split("\n"), found.split("\n")];
  const at = left.findIndex((line, index) => line !== right[index]);
  const index = at < 0 ? left.length : at;
  return `expected: ${(left[index] ?? "(nothing)").trim()}\n    found:    ${(right[index] ?? "(nothing)").trim()}`;
}
