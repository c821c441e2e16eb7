/**
 * Events of a session, as users see them: for tables, demos and dashboards.
 *
 * Owns: the public shape. Never: interprets what happened.
 */

import { CellaflowError } from "../errors.js";
import type { Usage } from "../gen/cellaflow/v1/common_pb.js";
import type { Event } from "../gen/cellaflow/v1/event_pb.js";
import type { SubscribeSessionResponse } from "../gen/cellaflow/v1/session_pb.js";
import { Joiner } from "../transport/pieces.js";

/** Tokens and cost of one model call. */
export interface EventUsage {
  provider: string;
  model: string;
  inputTokens: number;
  cachedReadTokens: number;
  cacheWriteTokens: number;
  outputTokens: number;
  estimated: boolean;
  /** Undefined: the model's price is unknown. */
  costNanos: number | undefined;
}

/** One event. */
export interface EventInfo {
  seq: number;
  /** Ledger time. */
  time: Date;
  /** What happened, e.g. "stepCompleted", "guardIntent", "zoneCommitted". */
  kind: string;
  /** Step or zone concerned; undefined: none. */
  stepKey: string | undefined;
  attempt: number | undefined;
  /** Name of the step, zone, signal, … concerned; undefined: none. */
  name: string | undefined;
  /**
   * Of a guarded step that did not call: the event whose output it has, in the session that called (the one that was
   * forked, in a fork). Undefined: it called itself.
   */
  deduplicatedFrom?: { sessionId: string; seq: number };
  /**
   * Where values were asked for: input or output of the session, output of a step or zone, value of a signal, or the
   * {@link Failure}. Undefined also when it was erased or is sealed.
   */
  value?: unknown;
  /** Model calls of this event. */
  usage: EventUsage[];
}

/** Converts a subscription. */
export async function* eventInfo(stream: AsyncIterable<SubscribeSessionResponse>): AsyncGenerator<EventInfo> {
  const joiner = new Joiner();
  for await (const { body } of stream) {
    if (body.case === "piece") joiner.take(body.value);
    else if (body.case === "event") yield infoOf(joiner.join(body.value));
    else if (body.case === "end") return;
  }
  // The engine cuts off who takes nothing for a minute: this was not all.
  throw new CellaflowError("unavailable", "the stream broke off before its end", "read on from the last event's seq", {
    retryable: true,
  });
}

/** Converts an event whose payloads are whole. */
export function infoOf(event: Event): EventInfo {
  const { body } = event;
  const value = (body.value ?? {}) as { stepKey?: string; zoneKey?: string; attempt?: number; name?: string };
  const from = deduplicatedFrom(event);
  return {
    seq: Number(event.seq),
    time: new Date(Number(event.timeMs)),
    kind: body.case ?? "unknown",
    stepKey: value.stepKey ?? value.zoneKey,
    attempt: value.attempt,
    name: value.name,
    usage: usagesOf(event).map(usageInfo),
    ...(from === undefined ? {} : { deduplicatedFrom: from }),
  };
}

/** Reads "session:seq". */
function deduplicatedFrom({ body }: Event): EventInfo["deduplicatedFrom"] {
  const [sessionId = "", seq] = body.case === "stepCompleted" ? body.value.deduplicatedFrom.split(":") : [];
  return sessionId === "" ? undefined : { sessionId, seq: Number(seq) };
}

/** Returns what an event's model calls used, those of failed attempts included. */
export function usagesOf({ body }: Event): Usage[] {
  if (body.case === "stepCompleted") return body.value.llm?.usage === undefined ? [] : [body.value.llm.usage];
  if (body.case === "stepFailed") return body.value.usage === undefined ? [] : [body.value.usage];
  if (body.case === "zoneCommitted") return body.value.llmCalls.flatMap((call) => call.usage ?? []);
  return body.case === "zoneFailed" ? body.value.usage : [];
}

function usageInfo(usage: Usage): EventUsage {
  return {
    provider: usage.provider,
    model: usage.model,
    inputTokens: Number(usage.inputTokens),
    cachedReadTokens: Number(usage.cachedReadTokens),
    cacheWriteTokens: Number(usage.cacheWriteTokens),
    outputTokens: Number(usage.outputTokens),
    estimated: usage.estimated,
    costNanos: usage.costNanos === undefined ? undefined : Number(usage.costNanos),
  };
}
