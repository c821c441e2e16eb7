/**
 * What a session was given when it began: input, budget, what becomes of guarded effects, what the session it continues left it.
 *
 * Owns: reading it from the first events. Never: changes it.
 */
import type { ContextUses } from "../context/uses.js";
import { ConversationDeltaSchema, StateDeltaSchema } from "../gen/cellaflow/content/v1/content_pb.js";
import type { Event } from "../gen/cellaflow/v1/event_pb.js";
import type { Budgets } from "./budget.js";
import type { Conversation } from "./conversation.js";
import { type Effects, effectsOf } from "./fork.js";
import { payloadDocument } from "./payloads.js";
import type { StateStore } from "./state.js";

/** What of the run it concerns. */
export interface BegunRun {
  readonly settings: { session: { sessionId: string } };
  readonly budgets: Budgets;
  readonly state: StateStore;
  readonly conversation: Conversation;
  readonly contexts: ContextUses;
}

export class Given {
  input: unknown;
  /** What becomes of guarded effects here. */
  effects: Effects = { stubbed: false, root: "" };

  constructor(private readonly run: BegunRun) {}

  /** Takes an event; most of them concern something else. */
  note(event: Event): void {
    const { body } = event;
    if (body.case === "sessionStarted") {
      this.input = body.value.input;
      this.run.budgets.started(body.value.budget);
      this.effects = effectsOf(body.value, this.run.settings.session.sessionId);
      this.inherit(event);
      if (body.value.forkedFromSession !== "") this.run.contexts.forked(Number(event.seq));
    } else if (body.case === "forkEdited" && body.value.stepKey === "") {
      this.input = body.value.edit.value;
      // What the inherited part of the conversation said may depend on the input: it is said again.
      this.run.conversation.restate();
      this.run.contexts.restated(Number(event.seq));
    }
  }

  /** What the session it continues left it. */
  private inherit({ stateDelta, conversationDelta }: Event): void {
    if (stateDelta !== undefined) this.run.state.apply(payloadDocument(stateDelta, StateDeltaSchema));
    if (conversationDelta === undefined) return;
    this.run.conversation.seed(payloadDocument(conversationDelta, ConversationDeltaSchema));
  }
}
