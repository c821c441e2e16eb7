/**
 * What an attempt of a zone streamed, exactly, as its record says it.
 *
 * Owns: the notes taken while it streams, their short form in a zone's record, and reading that back. Never: sends
 * anything (`evidence.ts`).
 *
 * Invariants:
 * - T1 what is read back from a committed zone's record is, byte for byte, what its attempt streamed: a subscriber that
 *   was away has the rest from there.
 * - T2 text that is in an answer is not stored again: a stretch names the answer. The usual zone needs no stretch at all.
 */
import { create } from "@bufbuild/protobuf";
import {
  type Streamed,
  StreamedSchema,
  type ZoneOutcome,
  type ZoneRecord,
} from "../gen/cellaflow/content/v1/content_pb.js";

interface Stretch {
  /** The call that streamed it. */
  key: string;
  text: string;
}

/** Notes of one attempt. */
export class StreamNotes {
  private readonly stretches: Stretch[] = [];
  /** Halves of characters that wait for the other half, by call. */
  private readonly halves = new Map<string, string>();

  /** Notes what a call streamed; returns what of it can be sent now: characters are never cut in two. */
  note(key: string, streamed: string): string {
    const all = (this.halves.get(key) ?? "") + streamed;
    const whole = endsInHalf(all) ? all.slice(0, -1) : all;
    if (whole.length < all.length) this.halves.set(key, all.slice(-1));
    else this.halves.delete(key);
    if (whole === "") return whole;
    const last = this.stretches.at(-1);
    if (last?.key === key) last.text += whole;
    else this.stretches.push({ key, text: whole });
    return whole;
  }

  /** The short form of what was streamed, for the record of these outcomes. */
  record(outcomes: readonly ZoneOutcome[]): Streamed[] {
    const texts = new Map(outcomes.map((outcome, index) => [outcome.stepKey, { index, text: textOfAnswer(outcome) }]));
    const whole = new Map<string, string>();
    for (const { key, text } of this.stretches) whole.set(key, (whole.get(key) ?? "") + text);
    const streamed = this.stretches.map(({ key, text }) => {
      const answer = texts.get(key);
      const bytes = Buffer.from(text, "utf8");
      // T1: an answer that is not what its call streamed (it was tried again, say) cannot stand for it.
      return answer !== undefined && answer.text === whole.get(key)
        ? create(StreamedSchema, { from: { case: "textOf", value: answer.index }, length: bytes.length })
        : create(StreamedSchema, { from: { case: "data", value: bytes } });
    });
    return same(streamed, usual(outcomes)) ? [] : streamed;
  }
}

/** What the attempt of a committed zone streamed (T1), in UTF-8. */
export function streamedIn(record: ZoneRecord): Buffer {
  const { outcomes } = record;
  const streamed = record.streamed.length > 0 ? record.streamed : usual(outcomes);
  const taken = new Map<number, number>();
  const parts = streamed.map(({ from, length }): Uint8Array => {
    if (from.case === "data") return from.value;
    const index = from.value ?? 0;
    const outcome = outcomes[index];
    const at = taken.get(index) ?? 0;
    taken.set(index, at + length);
    return outcome === undefined
      ? new Uint8Array(0)
      : Buffer.from(textOfAnswer(outcome), "utf8").subarray(at, at + length);
  });
  return Buffer.concat(parts);
}

/** The text of a model's answer. */
export function textOfAnswer(outcome: ZoneOutcome): string {
  if (outcome.outcome.case !== "llm") return "";
  const parts = outcome.outcome.value.message?.parts ?? [];
  return parts.map((part) => (part.kind.case === "text" ? part.kind.value : "")).join("");
}

/** What an empty list stands for: the texts of the streamed answers, one after the other. */
function usual(outcomes: readonly ZoneOutcome[]): Streamed[] {
  return outcomes.flatMap((outcome, value) => {
    const { outcome: what } = outcome;
    if (what.case !== "llm" || what.value.chunkLengths.length === 0) return [];
    const length = Buffer.byteLength(textOfAnswer(outcome), "utf8");
    return create(StreamedSchema, { from: { case: "textOf", value }, length });
  });
}

function same(one: readonly Streamed[], other: readonly Streamed[]): boolean {
  if (one.length !== other.length) return false;
  return one.every(({ from, length }, index) => {
    const its = other[index];
    return from.case === "textOf" && its !== undefined && from.value === its.from.value && length === its.length;
  });
}

function endsInHalf(text: string): boolean {
  const last = text.charCodeAt(text.length - 1);
  return last >= 0xd800 && last < 0xdc00;
}
