/**
 * What an append carries of `ctx.state` and `ctx.messages`, and what recorded events carried.
 *
 * Owns: the conversion. Never: decides when something is sent.
 */
import { ConversationDeltaSchema, StateDeltaSchema } from "../gen/cellaflow/content/v1/content_pb.js";
import { type Payload, PayloadFormat } from "../gen/cellaflow/v1/common_pb.js";
import type { Event } from "../gen/cellaflow/v1/event_pb.js";
import type { Conversation } from "./conversation.js";
import { documentPayload, payloadDocument } from "./payloads.js";
import type { StateStore } from "./state.js";
import { textsOfMessage } from "./texts.js";

/** What one append carries. */
export interface Deltas {
  state: Payload | undefined;
  conversation: Payload | undefined;
  /** How many messages the conversation has with its delta; absent: there is no delta. */
  messages?: number;
  /** Texts of the conversation's delta (see `texts.ts`). */
  texts: readonly (string | undefined)[];
  bytes: number;
}

export const NO_DELTAS: Deltas = { state: undefined, conversation: undefined, texts: [], bytes: 0 };

/** Takes what the ledger lacks. */
export function takeDeltas(state: StateStore, conversation: Conversation): Deltas {
  const writes = state.takeDelta();
  const pending = conversation.takeDelta();
  if (writes === undefined && pending === undefined) return NO_DELTAS;
  const statePayload =
    writes === undefined ? undefined : documentPayload(PayloadFormat.STATE_DELTA, StateDeltaSchema, writes);
  const conversationPayload =
    pending === undefined
      ? undefined
      : documentPayload(PayloadFormat.CONVERSATION_DELTA, ConversationDeltaSchema, pending.delta);
  const bytes = Number((statePayload?.sizeBytes ?? 0n) + (conversationPayload?.sizeBytes ?? 0n));
  const deltas = { state: statePayload, conversation: conversationPayload, texts: pending?.texts ?? [], bytes };
  if (pending === undefined) return deltas;
  return { ...deltas, messages: pending.delta.keep + pending.delta.appended.length };
}

/** Notes what a recorded event carried; returns the texts of its conversation's delta. */
export function noteDeltas(
  event: Event,
  state: StateStore,
  conversation: Conversation,
): readonly (string | undefined)[] {
  if (event.stateDelta !== undefined) state.noteRecorded(payloadDocument(event.stateDelta, StateDeltaSchema));
  if (event.conversationDelta === undefined) return [];
  const delta = payloadDocument(event.conversationDelta, ConversationDeltaSchema);
  conversation.noteRecorded(delta, Number(event.seq));
  return delta.appended.flatMap(textsOfMessage);
}

/** Returns the texts of a recorded event's conversation delta. */
export function textsOfDelta(event: Event): readonly (string | undefined)[] {
  if (event.conversationDelta === undefined) return [];
  return payloadDocument(event.conversationDelta, ConversationDeltaSchema).appended.flatMap(textsOfMessage);
}
