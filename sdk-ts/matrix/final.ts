/**
 * What a session came to: output or failure, `ctx.state` and conversation, folded from its ledger alone.
 *
 * Owns: a fold of its own, apart from the SDK's and the engine's: it judges them.
 */
import { type DescMessage, fromBinary, type MessageShape } from "@bufbuild/protobuf";
import {
  ConversationDeltaSchema,
  LlmRequestSchema,
  LlmResponseSchema,
  type Message,
  type Part,
  StateDeltaSchema,
  StepFailureSchema,
  ZoneRecordSchema,
} from "#sdk/gen/cellaflow/content/v1/content_pb.js";
import { type Payload, PayloadFormat } from "#sdk/gen/cellaflow/v1/common_pb.js";
import type { Event, LlmCall } from "#sdk/gen/cellaflow/v1/event_pb.js";
import { decodeValue } from "#sdk/values/codec.js";

/** What a session came to. */
export interface Final {
  /** Kind of its last event, e.g. "sessionCompleted". */
  end: string;
  output: unknown;
  failure: unknown;
  state: Record<string, unknown>;
  messages: unknown[];
}

/** Folds a session's events, payloads included, in order. */
export function finalOf(events: readonly Event[]): Final {
  const state = new Map<string, unknown>();
  const texts = new Map<string, string>();
  let messages: Message[] = [];
  for (const event of events) {
    for (const [part, text] of textsOf(event).entries()) {
      if (text !== undefined) texts.set(`${event.seq}/${part}`, text);
    }
    const delta = document(event.conversationDelta, ConversationDeltaSchema);
    if (delta !== undefined) {
      const appended = delta.appended.map((message) => withTexts(message, event.seq, texts));
      messages = [...messages.slice(0, delta.keep), ...appended];
    }
    const zone = event.body.case === "zoneCommitted" ? document(event.body.value.record, ZoneRecordSchema) : undefined;
    for (const writes of [zone?.state, document(event.stateDelta, StateDeltaSchema)]) {
      for (const { key, value } of writes?.writes ?? []) {
        if (value === undefined) state.delete(key);
        else state.set(key, decodeValue(value));
      }
    }
  }
  const last = events.at(-1)?.body;
  const ended = (last?.value ?? {}) as { output?: Payload; failure?: Payload };
  return {
    end: last?.case ?? "nothing",
    output: payloadValueOf(ended.output),
    failure: document(ended.failure, StepFailureSchema),
    state: Object.fromEntries([...state].sort(([a], [b]) => (a < b ? -1 : 1))),
    messages: messages.map(plain),
  };
}

/** The texts of an event in the order in which references count them (`runtime/texts.ts`). */
function textsOf(event: Event): (string | undefined)[] {
  const { body } = event;
  const found = messageTexts(document(event.conversationDelta, ConversationDeltaSchema)?.appended ?? []);
  if (body.case === "stepCompleted") {
    found.push(...outputTexts(body.value.output));
    if (body.value.llm !== undefined) found.push(...callTexts(body.value.llm));
  }
  if (body.case === "zoneCommitted") {
    found.push(...outputTexts(body.value.output));
    for (const { outcome } of document(body.value.record, ZoneRecordSchema)?.outcomes ?? []) {
      if (outcome.case === "output") found.push(...textOfValue(decodeValue(outcome.value)));
      if (outcome.case === "llm") found.push(...messageTexts(outcome.value.message ? [outcome.value.message] : []));
    }
    for (const call of body.value.llmCalls) found.push(...callTexts(call));
  }
  return found;
}

function outputTexts(output: Payload | undefined): (string | undefined)[] {
  if (output?.format === PayloadFormat.LLM_RESPONSE) return responseTexts(output);
  return textOfValue(payloadValueOf(output));
}

function callTexts({ request, response }: LlmCall): (string | undefined)[] {
  return [...messageTexts(document(request, LlmRequestSchema)?.appended ?? []), ...responseTexts(response)];
}

function responseTexts(response: Payload | undefined): (string | undefined)[] {
  const message = document(response, LlmResponseSchema)?.message;
  return messageTexts(message === undefined ? [] : [message]);
}

function textOfValue(value: unknown): string[] {
  return typeof value === "string" ? [value] : [];
}

function messageTexts(messages: readonly Message[]): (string | undefined)[] {
  return messages.flatMap((message) =>
    message.parts.flatMap((part) => {
      const text = textOfPart(part);
      return text === undefined ? [] : [part.sameAs === undefined ? text : undefined];
    }),
  );
}

function textOfPart({ kind }: Part): string | undefined {
  if (kind.case === "text" || kind.case === "reasoning") return kind.value;
  return kind.case === "toolResult" ? kind.value.text : undefined;
}

/** Puts the texts in that are only named; one that cannot be found says so, and so differs from every other. */
function withTexts(message: Message, seq: bigint, texts: ReadonlyMap<string, string>): Message {
  const parts = message.parts.map((part): Part => {
    const { sameAs, kind } = part;
    if (sameAs === undefined) return part;
    const place = `${sameAs.seq === 0n ? seq : sameAs.seq}/${sameAs.part}`;
    const text = texts.get(place) ?? `(no text at ${place})`;
    const whole = { ...part } as Part;
    delete whole.sameAs;
    if (kind.case === "toolResult") whole.kind = { case: "toolResult", value: { ...kind.value, text } };
    else if (kind.case === "text" || kind.case === "reasoning") whole.kind = { case: kind.case, value: text };
    return whole;
  });
  return { ...message, parts };
}

function plain({ role, parts }: Message): unknown {
  return { role, parts: parts.map(({ kind }) => ({ [kind.case ?? "nothing"]: kind.value })) };
}

function payloadValueOf(payload: Payload | undefined): unknown {
  if (payload?.body.case !== "data") return undefined;
  if (payload.format !== PayloadFormat.VALUE && payload.format !== PayloadFormat.JSON) return payload.body.value;
  return decodeValue(payload.body.value);
}

function document<D extends DescMessage>(from: Payload | undefined, schema: D): MessageShape<D> | undefined {
  if (from === undefined) return undefined;
  return fromBinary(schema, from.body.case === "data" ? from.body.value : new Uint8Array(0));
}
