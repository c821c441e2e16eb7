/**
 * The messages of a conversation, as users write and read them, and their stored form.
 *
 * Owns: the public shape of messages and its conversion. Never: talks to a provider.
 *
 * Invariant M1: fromStored(toStored(message)) equals message; provider metadata is kept byte-equal.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import {
  MessageSchema,
  PartSchema,
  type Message as StoredMessage,
  type Part as StoredPart,
} from "../gen/cellaflow/content/v1/content_pb.js";

/** What a part carries besides its content: JSON of the provider, e.g. signatures that it demands back. */
export interface PartExtras {
  /** JSON text, kept byte-equal. */
  providerMetadata?: string;
}

/** One part of a message. */
export type MessagePart = PartExtras &
  (
    | { type: "text"; text: string }
    | { type: "reasoning"; text: string }
    | { type: "toolCall"; id: string; name: string; arguments: string }
    | { type: "toolResult"; id: string; text: string; failed?: boolean }
    | { type: "file"; mediaType: string; name?: string; url: string }
    | { type: "file"; mediaType: string; name?: string; data: Uint8Array }
    | { type: "custom"; json: string }
  );

/** One message of a conversation. */
export interface Message {
  role: "system" | "user" | "assistant" | "tool";
  parts: readonly MessagePart[];
  /** JSON text of the provider, kept byte-equal. */
  providerMetadata?: string;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Returns the stored form with every text in full. */
export function toStored(message: Message): StoredMessage {
  return create(MessageSchema, {
    role: message.role,
    parts: message.parts.map(toStoredPart),
    providerMetadata: bytesOf(message.providerMetadata),
  });
}

/** Returns what users see of a stored message whose texts are all in full. */
export function fromStored(stored: StoredMessage): Message {
  const message: Message = { role: stored.role as Message["role"], parts: stored.parts.map(fromStoredPart) };
  if (stored.providerMetadata.length > 0) message.providerMetadata = decoder.decode(stored.providerMetadata);
  return message;
}

/** Returns the canonical bytes of a message, of which running hashes are made: its stored form with texts in full. */
export function messageBytes(stored: StoredMessage): Uint8Array {
  return toBinary(MessageSchema, stored);
}

function toStoredPart(part: MessagePart): StoredPart {
  return create(PartSchema, { kind: kindOf(part), providerMetadata: bytesOf(part.providerMetadata) });
}

type KindInit = NonNullable<Parameters<typeof create<typeof PartSchema>>[1]>["kind"] & object;

function kindOf(part: MessagePart): KindInit {
  switch (part.type) {
    case "text":
      return { case: "text", value: part.text };
    case "reasoning":
      return { case: "reasoning", value: part.text };
    case "toolCall":
      return { case: "toolCall", value: { id: part.id, name: part.name, arguments: part.arguments } };
    case "toolResult":
      return { case: "toolResult", value: { id: part.id, text: part.text, failed: part.failed ?? false } };
    case "file":
      return {
        case: "file",
        value: {
          mediaType: part.mediaType,
          name: part.name ?? "",
          content: "url" in part ? { case: "url", value: part.url } : { case: "data", value: part.data },
        },
      };
    case "custom":
      return { case: "custom", value: encoder.encode(part.json) };
  }
}

function fromStoredPart(stored: StoredPart): MessagePart {
  const part = partOf(stored);
  if (stored.providerMetadata.length > 0) part.providerMetadata = decoder.decode(stored.providerMetadata);
  return part;
}

function partOf(stored: StoredPart): MessagePart {
  const kind = stored.kind;
  switch (kind.case) {
    case "text":
      return { type: "text", text: kind.value };
    case "reasoning":
      return { type: "reasoning", text: kind.value };
    case "toolCall":
      return { type: "toolCall", id: kind.value.id, name: kind.value.name, arguments: kind.value.arguments };
    case "toolResult": {
      const { id, text, failed } = kind.value;
      return failed ? { type: "toolResult", id, text, failed } : { type: "toolResult", id, text };
    }
    case "file": {
      const { mediaType, name, content } = kind.value;
      const head = name === "" ? { mediaType } : { mediaType, name };
      return content.case === "data"
        ? { type: "file", ...head, data: content.value }
        : { type: "file", ...head, url: content.value ?? "" };
    }
    case "custom":
      return { type: "custom", json: decoder.decode(kind.value) };
    case undefined:
      return { type: "text", text: "" };
  }
}

function bytesOf(text: string | undefined): Uint8Array {
  return text === undefined ? new Uint8Array(0) : encoder.encode(text);
}
