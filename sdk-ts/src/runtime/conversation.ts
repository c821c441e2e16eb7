/**
 * The conversation of a session (`ctx.messages`) and what of it the ledger lacks.
 *
 * Owns: the list, its running hashes, the delta of the next append. Never: decides when an append is made.
 *
 * Invariants:
 * - V1 the list only grows, and only by workflow code; replay re-executes the pushes.
 * - V2 after an append took the delta, the ledger's list is a prefix of this one (once that append is durable).
 */
import { hash } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import {
  type ConversationDelta,
  ConversationDeltaSchema,
  type Message as StoredMessage,
} from "../gen/cellaflow/content/v1/content_pb.js";
import { fromStored, type Message, messageBytes, toStored } from "./messages.js";
import { type TextRegistry, textsOfMessage } from "./texts.js";

const NO_MESSAGES_HASH = new Uint8Array(32);

/** Returns the running hash of a list that is one message longer. */
export function runningHash(before: Uint8Array, message: StoredMessage): Uint8Array {
  const inner = hash("sha256", messageBytes(message), "buffer");
  return hash("sha256", Buffer.concat([before, inner]), "buffer");
}

/** A delta to send, and the texts it records (see `texts.ts`). */
export interface PendingDelta {
  delta: ConversationDelta;
  texts: (string | undefined)[];
}

/** The conversation of one run. */
export class Conversation {
  /** The messages in their stored form, texts in full. */
  readonly stored: StoredMessage[] = [];
  /** Events that are known to have appended messages, and how many leading messages the ledger has with each; in order. */
  private durable: { seq: number; messages: number }[] = [];
  private readonly shown: Message[] = [];
  private readonly hashes: Uint8Array[] = [];
  private committed = 0;

  constructor(private readonly texts: TextRegistry) {}

  get length(): number {
    return this.stored.length;
  }

  /** The messages as users see them. */
  get messages(): readonly Message[] {
    return this.shown;
  }

  /** Returns message `index` in its stored form, texts in full. */
  at(index: number): StoredMessage | undefined {
    return this.stored[index];
  }

  /** Returns the running hash of the first `count` messages. */
  hashOf(count: number): Uint8Array {
    for (let index = this.hashes.length; index < count; index++) {
      const message = this.stored[index];
      if (message === undefined) break;
      this.hashes.push(runningHash(this.hashes[index - 1] ?? NO_MESSAGES_HASH, message));
    }
    return this.hashes[count - 1] ?? NO_MESSAGES_HASH;
  }

  /** Adds a message. What users see is the stored form read back, so that a later change of theirs changes nothing. */
  push(message: Message): void {
    const stored = toStored(message);
    this.stored.push(stored);
    this.shown.push(fromStored(stored));
  }

  /** Begins with what the session it continues left: messages with their texts in full. */
  seed(delta: ConversationDelta): void {
    for (const stored of delta.appended) {
      this.stored.push(stored);
      this.shown.push(fromStored(stored));
    }
  }

  /** Notes what a recorded event committed; called for every event of the replay before workflow code runs. */
  noteRecorded(delta: ConversationDelta, seq: number): void {
    this.noteDurable(seq, delta.keep + delta.appended.length);
    this.committed = delta.keep + delta.appended.length;
  }

  /** Commits the whole list with the next append: the ledger's may be another one. */
  restate(): void {
    this.durable = [];
    this.committed = 0;
  }

  /** Notes that the ledger has the first `messages`, by an event. */
  noteDurable(seq: number, messages: number): void {
    if (seq > (this.durable.at(-1)?.seq ?? 0)) this.durable.push({ seq, messages });
  }

  /** How many leading messages the ledger is known to have. */
  get durableMessages(): number {
    return this.durable.at(-1)?.messages ?? 0;
  }

  /** The event with which the ledger had the first `messages`; 0: it is not known to have them. */
  durableSince(messages: number): number {
    return (
      this.durable.findLast((one, at) => {
        return one.messages >= messages && (this.durable[at - 1]?.messages ?? 0) < messages;
      })?.seq ?? 0
    );
  }

  /** Takes what the next append has to carry; undefined: nothing. */
  takeDelta(): PendingDelta | undefined {
    if (this.committed >= this.stored.length) return undefined;
    const appended = this.stored.slice(this.committed).map((message) => this.texts.withReferences(message));
    const delta = create(ConversationDeltaSchema, { keep: this.committed, appended });
    this.committed = this.stored.length;
    return { delta, texts: appended.flatMap(textsOfMessage) };
  }
}
