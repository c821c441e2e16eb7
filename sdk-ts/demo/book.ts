/**
 * Keeps the table's numbers: what was journaled, what was replayed instead of done again, and what it cost.
 */
import type { Usage } from "#sdk/gen/cellaflow/v1/common_pb.js";
import { type Event, type LlmCall, Resolution } from "#sdk/gen/cellaflow/v1/event_pb.js";

/** One row: all steps of one name, over all runs. */
export interface Row {
  name: string;
  /** Outcomes committed. */
  journaled: number;
  /** Recorded outcomes handed out again after a kill. */
  replayed: number;
  tokens: number;
  /** Undefined until a price was known. */
  costNanos: number | undefined;
}

interface SessionNotes {
  /** Names by step or zone key, from the events that say them. */
  names: Map<string, string>;
  /** Names of the outcomes recorded so far. */
  outcomes: string[];
}

/** The numbers of all runs together. */
export class Book {
  private readonly byName = new Map<string, Row>();
  private readonly sessions = new Map<string, SessionNotes>();

  /** In the order in which the steps were first seen. */
  get rows(): readonly Row[] {
    return [...this.byName.values()];
  }

  get totals(): Omit<Row, "name"> {
    const sum = { journaled: 0, replayed: 0, tokens: 0, costNanos: undefined as number | undefined };
    for (const row of this.byName.values()) {
      sum.journaled += row.journaled;
      sum.replayed += row.replayed;
      sum.tokens += row.tokens;
      sum.costNanos = plus(sum.costNanos, row.costNanos);
    }
    return sum;
  }

  /** Takes one event of one run. */
  take(run: string, event: Event): void {
    const notes = this.notes(run);
    const { body } = event;
    switch (body.case) {
      case "stepCompleted":
        this.outcome(notes, body.value.name, body.value.llm ? [body.value.llm] : [], body.value.costNanos);
        break;
      case "stepFailed":
        if (body.value.final) this.outcome(notes, body.value.name, []);
        break;
      case "guardIntent":
        notes.names.set(body.value.stepKey, body.value.name);
        break;
      case "guardResolved":
        if (body.value.resolution === Resolution.OUTPUT || body.value.resolution === Resolution.FAILURE) {
          this.outcome(notes, notes.names.get(body.value.stepKey) ?? body.value.stepKey, []);
        }
        break;
      case "zoneEntered":
        notes.names.set(body.value.zoneKey, body.value.name);
        break;
      case "zoneCommitted": {
        const name = notes.names.get(body.value.zoneKey) ?? body.value.zoneKey;
        this.outcome(notes, name, body.value.llmCalls, body.value.costNanos);
        break;
      }
      case "zoneFailed":
        if (body.value.final) this.outcome(notes, notes.names.get(body.value.zoneKey) ?? body.value.zoneKey, []);
        break;
      case "leaseGranted":
        // Whoever takes the lease runs the workflow from its start: every outcome so far is handed out again.
        for (const name of notes.outcomes) this.row(name).replayed += 1;
        break;
      default:
        break;
    }
  }

  private outcome(notes: SessionNotes, name: string, calls: readonly LlmCall[], costNanos = 0n): void {
    const row = this.row(name);
    row.journaled += 1;
    notes.outcomes.push(name);
    if (costNanos !== 0n) row.costNanos = plus(row.costNanos, Number(costNanos));
    for (const { usage } of calls) {
      if (usage === undefined) continue;
      row.tokens += tokensOf(usage);
      if (usage.costNanos !== undefined) row.costNanos = plus(row.costNanos, Number(usage.costNanos));
    }
  }

  private row(name: string): Row {
    let row = this.byName.get(name);
    if (row === undefined) {
      row = { name, journaled: 0, replayed: 0, tokens: 0, costNanos: undefined };
      this.byName.set(name, row);
    }
    return row;
  }

  private notes(run: string): SessionNotes {
    let notes = this.sessions.get(run);
    if (notes === undefined) {
      notes = { names: new Map(), outcomes: [] };
      this.sessions.set(run, notes);
    }
    return notes;
  }
}

/** All tokens of a call, read from a cache or not. */
export function tokensOf(usage: Usage): number {
  return Number(usage.inputTokens + usage.cachedReadTokens + usage.cacheWriteTokens + usage.outputTokens);
}

function plus(a: number | undefined, b: number | undefined): number | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return a + b;
}
