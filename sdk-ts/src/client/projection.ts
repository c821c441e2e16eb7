/**
 * What a session's code has kept, from its events alone: `ctx.state` and `ctx.messages`.
 *
 * Owns: folding deltas, resolving texts that are stored as references. Never: runs workflow code.
 *
 * Invariants:
 * - P1 what an event carried is what the code had written before that event; what was written since shows with the next.
 * - P2 texts are counted as `runtime/texts.ts` says, so that a reference finds the text it names.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { CellaflowError } from "../errors.js";
import {
  ConversationDeltaSchema,
  LlmRequestSchema,
  LlmResponseSchema,
  type Part,
  type StateDelta,
  StateDeltaSchema,
  type Message as StoredMessage,
  type ZoneOutcome,
  ZoneRecordSchema,
} from "../gen/cellaflow/content/v1/content_pb.js";
import { type Payload, PayloadFormat } from "../gen/cellaflow/v1/common_pb.js";
import type { Event, LlmCall } from "../gen/cellaflow/v1/event_pb.js";
import { fromStored, type Message } from "../runtime/messages.js";
import { payloadBytes, payloadDocument, payloadValue } from "../runtime/payloads.js";
import { REFERENCED_TEXT_CHARS_MIN, textsOfMessage } from "../runtime/texts.js";
import type { PayloadCodec } from "../values/hooks.js";

type Texts = readonly (string | undefined)[];

/** The fold of a session's events up to some seq. */
export class Projection {
  /** Last event noted; 0: none yet. */
  seq = 0;
  private readonly values = new Map<string, Uint8Array>();
  private stored: StoredMessage[] = [];
  private readonly texts = new Map<string, string>();

  constructor(private readonly codec: PayloadCodec) {}

  /** Takes the next event. */
  note(event: Event): void {
    this.seq = Number(event.seq);
    const texts: (string | undefined)[] = [];
    if (event.stateDelta !== undefined) this.write(payloadDocument(event.stateDelta, StateDeltaSchema));
    if (event.conversationDelta !== undefined) {
      const { keep, appended } = payloadDocument(event.conversationDelta, ConversationDeltaSchema);
      texts.push(...appended.flatMap(textsOfMessage));
      this.stored = [...this.stored.slice(0, keep), ...appended.map((message) => this.whole(message))];
    }
    texts.push(...this.textsOf(event));
    for (const [part, text] of texts.entries()) {
      if (text !== undefined && text.length >= REFERENCED_TEXT_CHARS_MIN) this.texts.set(placeOf(this.seq, part), text);
    }
  }

  /** Values under their names, in the names' order. */
  state(): Record<string, unknown> {
    const names = [...this.values.keys()].sort();
    return Object.fromEntries(
      names.map((name) => [name, this.codec.decode(this.values.get(name) ?? new Uint8Array(0))]),
    );
  }

  messages(): Message[] {
    return this.stored.map(fromStored);
  }

  private write(delta: StateDelta): void {
    for (const { key, value } of delta.writes) {
      if (value === undefined) this.values.delete(key);
      else this.values.set(key, value);
    }
  }

  private textsOf({ body }: Event): Texts {
    switch (body.case) {
      case "stepCompleted":
        return body.value.llm === undefined
          ? this.textsOfValue(body.value.output)
          : [...textsOfAnswer(body.value.output), ...textsOfRequest(body.value.llm)];
      case "forkEdited": {
        const { edit } = body.value;
        if (edit.case !== "output") return [];
        const answer = edit.value.format === PayloadFormat.LLM_RESPONSE;
        return answer ? textsOfAnswer(edit.value) : this.textsOfValue(edit.value);
      }
      case "guardResolved":
        return this.textsOfValue(body.value.output);
      case "zoneCommitted": {
        const record = payloadDocument(body.value.record, ZoneRecordSchema);
        if (record.state !== undefined) this.write(record.state);
        const inside = record.outcomes.flatMap((outcome) => this.textsOfOutcome(outcome));
        return [...this.textsOfValue(body.value.output), ...inside, ...body.value.llmCalls.flatMap(textsOfRequest)];
      }
      default:
        return [];
    }
  }

  private textsOfValue(output: Payload | undefined): Texts {
    if (output === undefined) return [];
    if (output?.format === PayloadFormat.CONTEXT) return [];
    const value = payloadValue(output, this.codec);
    return typeof value === "string" ? [value] : [];
  }

  private textsOfOutcome({ outcome }: ZoneOutcome): Texts {
    if (outcome.case === "llm") return textsOfMessage(outcome.value.message);
    if (outcome.case !== "output") return [];
    const value = this.codec.decode(outcome.value);
    return typeof value === "string" ? [value] : [];
  }

  private whole(message: StoredMessage): StoredMessage {
    return { ...message, parts: message.parts.map((part) => this.wholePart(part)) };
  }

  private wholePart(part: Part): Part {
    const { sameAs, kind, ...rest } = part;
    if (sameAs === undefined) return part;
    const text = this.texts.get(placeOf(Number(sameAs.seq), sameAs.part));
    if (text === undefined) throw unresolved(Number(sameAs.seq), sameAs.part);
    if (kind.case === "toolResult") return { ...rest, kind: { case: kind.case, value: { ...kind.value, text } } };
    if (kind.case === "text" || kind.case === "reasoning") return { ...rest, kind: { case: kind.case, value: text } };
    return part;
  }
}

function textsOfAnswer(output: Payload | undefined): Texts {
  return textsOfMessage(fromBinary(LlmResponseSchema, payloadBytes(output)).message);
}

function textsOfRequest(call: LlmCall): Texts {
  return call.request === undefined
    ? []
    : payloadDocument(call.request, LlmRequestSchema).appended.flatMap(textsOfMessage);
}

function placeOf(seq: number, part: number): string {
  return `${seq}/${part}`;
}

function unresolved(seq: number, part: number): CellaflowError {
  const problem = `a message refers to text ${part} of event ${seq}, which does not have it`;
  return new CellaflowError("payload_absent", problem, "update @cellaflow/sdk, or look at the events themselves");
}
