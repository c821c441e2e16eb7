/**
 * Which texts of a session are in the ledger already, so that a part which repeats one is sent as a reference.
 *
 * Owns: the numbering of texts within an event, and the look-up by content. Never: keeps the texts themselves.
 *
 * Texts of one event are counted from 0 through its documents in this order (a repeated part counts as well):
 * 1. the conversation delta's appended messages,
 * 2. the output, if it is one string, or the message of a model's answer,
 * 3. of a zone's record: each outcome's output, if it is one string, or its answer's message,
 * 4. of each model call: the request's appended messages, then its response's message.
 * Of a message, its text, reasoning and tool result parts count, in order.
 *
 * Invariants:
 * - T1 a reference names an event whose seq the run knows: it is durable.
 * - T2 equal digests (SHA-256) stand for equal texts.
 */
import { hash } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import {
  type Part,
  type PartRef,
  PartRefSchema,
  PartSchema,
  type Message as StoredMessage,
} from "../gen/cellaflow/content/v1/content_pb.js";

/** Shorter texts are repeated: a reference would save nothing. In UTF-16 units. */
export const REFERENCED_TEXT_CHARS_MIN = 64;
/** Longer ones are digested when there is time for it, or when somebody asks. In UTF-16 units, those of one event. */
const DIGESTED_SOON_CHARS = 16_384;
/** How many texts a session remembers; the oldest are forgotten first. */
export const REFERENCED_TEXTS_MAX = 65_536;

/** Where a text was recorded. */
export interface TextPlace {
  seq: number;
  part: number;
}

/** The texts of one session, by content. */
export class TextRegistry {
  private readonly places = new Map<string, TextPlace>();
  /** Recorded and not digested yet, in order; until the next turn of the event loop at most. */
  private waiting: { seq: number; texts: readonly (string | undefined)[] }[] = [];
  private readonly digest = (): void => this.settle();

  /** Remembers the texts of an event, in the order in which they are counted; undefined: one that is not known here. */
  record(seq: number, texts: readonly (string | undefined)[]): void {
    let chars = 0;
    for (const text of texts) chars += text?.length ?? 0;
    if (chars <= DIGESTED_SOON_CHARS && this.waiting.length === 0) return this.place(seq, texts);
    // The next step's commit goes out first: what it takes to digest a long text is then spent while the engine syncs.
    if (this.waiting.push({ seq, texts }) === 1) setImmediate(this.digest);
  }

  private settle(): void {
    const { waiting } = this;
    this.waiting = [];
    for (const { seq, texts } of waiting) this.place(seq, texts);
  }

  private place(seq: number, texts: readonly (string | undefined)[]): void {
    for (const [part, text] of texts.entries()) {
      if (text === undefined || text.length < REFERENCED_TEXT_CHARS_MIN) continue;
      const key = hash("sha256", text, "base64");
      if (this.places.has(key)) continue;
      if (this.places.size >= REFERENCED_TEXTS_MAX) this.forgetOldest();
      this.places.set(key, { seq, part });
    }
  }

  /** Says where a text was recorded. */
  find(text: string): TextPlace | undefined {
    if (this.waiting.length > 0) this.settle();
    if (text.length < REFERENCED_TEXT_CHARS_MIN || this.places.size === 0) return undefined;
    return this.places.get(hash("sha256", text, "base64"));
  }

  /** Returns the message as it is sent: texts that are recorded are left out and named instead. */
  withReferences(message: StoredMessage): StoredMessage {
    return { ...message, parts: message.parts.map((part) => this.withReference(part)) };
  }

  private withReference(part: Part): Part {
    const text = textOf(part);
    const place = text === undefined ? undefined : this.find(text);
    if (place === undefined) return part;
    return create(PartSchema, {
      kind: emptied(part.kind),
      providerMetadata: part.providerMetadata,
      sameAs: ref(place),
    });
  }

  private forgetOldest(): void {
    const oldest = this.places.keys().next();
    if (!oldest.done) this.places.delete(oldest.value);
  }
}

/** Returns the texts of a message, in the order in which they are counted. */
export function textsOfMessage(message: StoredMessage | undefined): (string | undefined)[] {
  if (message === undefined) return [];
  return message.parts.filter(hasText).map((part) => (part.sameAs === undefined ? textOf(part) : undefined));
}

function hasText(part: Part): boolean {
  return textOf(part) !== undefined;
}

function textOf(part: Part): string | undefined {
  const kind = part.kind;
  if (kind.case === "text" || kind.case === "reasoning") return kind.value;
  return kind.case === "toolResult" ? kind.value.text : undefined;
}

function emptied(kind: Part["kind"]): Part["kind"] {
  if (kind.case === "text" || kind.case === "reasoning") return { ...kind, value: "" };
  return kind.case === "toolResult" ? { case: "toolResult", value: { ...kind.value, text: "" } } : kind;
}

function ref(place: TextPlace): PartRef {
  return create(PartRefSchema, { seq: BigInt(place.seq), part: place.part });
}
