/**
 * Outcomes of steps and zones, from a session's events alone.
 *
 * Owns: which event is whose outcome, and what it cost. Never: runs workflow code.
 */

import { usedContext } from "../context/shown.js";
import type { Failure } from "../failure.js";
import { LlmResponseSchema, ZoneRecordSchema } from "../gen/cellaflow/content/v1/content_pb.js";
import { type Payload, PayloadFormat, type Usage } from "../gen/cellaflow/v1/common_pb.js";
import { type Event, Resolution } from "../gen/cellaflow/v1/event_pb.js";
import { fromStored } from "../runtime/messages.js";
import { payloadDocument, payloadFailure, payloadValue } from "../runtime/payloads.js";
import type { PayloadCodec } from "../values/hooks.js";
import { usagesOf } from "./events.js";

/** What a step or zone came to. */
export interface StepOutcome {
  stepKey: string;
  /** Its event. */
  seq: number;
  /** Exactly one of `output` and `failure` counts: `failure` is undefined where there is an output. */
  output: unknown;
  failure: Failure | undefined;
  /** Tokens of its model calls, all kinds. */
  tokens: number;
  /** Known cost in nano-dollars (1e-9 USD). */
  costNanos: number;
  /** True for an outcome that an edit of a fork gave. */
  edited: boolean;
}

/** The outcomes of a session up to some seq. */
export class Outcomes {
  /** Ledger time of the last event noted. */
  time = new Date(0);
  /** What the session was started with. */
  input: unknown;
  private readonly byKey = new Map<string, StepOutcome>();
  private readonly spent: { seq: number; tokens: number; costNanos: number }[] = [];

  constructor(private readonly codec: PayloadCodec) {}

  /** Takes the next event. */
  note(event: Event): void {
    this.time = new Date(Number(event.timeMs));
    const { body } = event;
    if (body.case === "sessionStarted") this.input = payloadValue(body.value.input, this.codec);
    this.spend(event);
    const outcome = this.outcomeOf(event);
    if (outcome !== undefined) this.byKey.set(outcome.stepKey, outcome);
  }

  /** In ledger order. */
  list(): StepOutcome[] {
    return [...this.byKey.values()].sort((a, b) => a.seq - b.seq);
  }

  /** What the events after `seq` used: answers, and attempts that failed. */
  spentAfter(seq: number): { tokens: number; costNanos: number } {
    const own = this.spent.filter((one) => one.seq > seq);
    return {
      tokens: own.reduce((sum, one) => sum + one.tokens, 0),
      costNanos: own.reduce((sum, one) => sum + one.costNanos, 0),
    };
  }

  private spend(event: Event): void {
    const { body } = event;
    const ownNanos = body.case === "stepCompleted" || body.case === "zoneCommitted" ? body.value.costNanos : 0n;
    const used = sums(usagesOf(event), ownNanos);
    if (used.tokens > 0 || used.costNanos !== 0) this.spent.push({ seq: Number(event.seq), ...used });
  }

  private outcomeOf(event: Event): StepOutcome | undefined {
    const { body } = event;
    const seq = Number(event.seq);
    switch (body.case) {
      case "stepCompleted": {
        const { stepKey, output, llm, costNanos } = body.value;
        return this.completed(stepKey, seq, output, llm?.usage === undefined ? [] : [llm.usage], costNanos);
      }
      case "stepFailed":
        return body.value.final ? failed(body.value.stepKey, seq, body.value.failure) : undefined;
      case "guardResolved": {
        const { stepKey, resolution, output, failure } = body.value;
        if (resolution === Resolution.OUTPUT) return this.completed(stepKey, seq, output, [], 0n);
        return resolution === Resolution.FAILURE ? failed(stepKey, seq, failure) : undefined;
      }
      case "zoneCommitted": {
        const { zoneKey, output, record, llmCalls, costNanos } = body.value;
        const usages = llmCalls.flatMap((call) => call.usage ?? []);
        const value = output === undefined ? this.fromRecord(record) : payloadValue(output, this.codec);
        return outcome(zoneKey, seq, value, usages, costNanos);
      }
      case "zoneFailed":
        return body.value.final ? failed(body.value.zoneKey, seq, body.value.failure) : undefined;
      case "forkEdited": {
        const { stepKey, edit } = body.value;
        if (edit.case === "output") return { ...this.completed(stepKey, seq, edit.value, [], 0n), edited: true };
        return edit.case === "failure" ? { ...failed(stepKey, seq, edit.value), edited: true } : undefined;
      }
      default:
        return undefined;
    }
  }

  private completed(key: string, seq: number, output: Payload | undefined, usages: readonly Usage[], cost: bigint) {
    return outcome(key, seq, this.valueOf(output), usages, cost);
  }

  /** Reads an output as users see it: a model's answer as its message, a context as what it came to. */
  valueOf(output: Payload | undefined): unknown {
    if (output?.format === PayloadFormat.CONTEXT) return usedContext(output);
    if (output?.format !== PayloadFormat.LLM_RESPONSE) return payloadValue(output, this.codec);
    const { message } = payloadDocument(output, LlmResponseSchema);
    return message === undefined ? undefined : fromStored(message);
  }

  /** A zone's value that is an answer of its own stands in its record. */
  private fromRecord(record: Payload | undefined): unknown {
    const { outcomes, valueFrom } = payloadDocument(record, ZoneRecordSchema);
    if (valueFrom.case === undefined) return undefined;
    const inner = outcomes[valueFrom.value]?.outcome;
    if (inner?.case !== "llm" || inner.value.message === undefined) return undefined;
    const message = fromStored(inner.value.message);
    if (valueFrom.case === "finalOf") return message;
    return message.parts.map((part) => (part.type === "text" ? part.text : "")).join("");
  }
}

function outcome(
  stepKey: string,
  seq: number,
  output: unknown,
  usages: readonly Usage[],
  ownNanos: bigint,
): StepOutcome {
  return { stepKey, seq, output, failure: undefined, ...sums(usages, ownNanos), edited: false };
}

function sums(usages: readonly Usage[], ownNanos: bigint): { tokens: number; costNanos: number } {
  const tokensOf = (usage: Usage): bigint =>
    usage.inputTokens + usage.cachedReadTokens + usage.cacheWriteTokens + usage.outputTokens;
  const tokens = Number(usages.reduce((sum, usage) => sum + tokensOf(usage), 0n));
  return { tokens, costNanos: Number(usages.reduce((sum, usage) => sum + (usage.costNanos ?? 0n), ownNanos)) };
}

function failed(stepKey: string, seq: number, failure: Payload | undefined): StepOutcome {
  const fields = { output: undefined, failure: payloadFailure(failure), tokens: 0, costNanos: 0, edited: false };
  return { stepKey, seq, ...fields };
}
