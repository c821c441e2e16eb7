/**
 * Small conveniences over messages.
 *
 * Owns: the short form of messages. Never: stores or sends them.
 */
import type { Message } from "../runtime/messages.js";
import type { MessageInput, ToolCall } from "./types.js";

/** Returns the full form of a message. A message that has it already is returned as it is. */
export function toMessage(input: MessageInput): Message {
  return "parts" in input ? input : { role: input.role, parts: [{ type: "text", text: input.content }] };
}

/** Returns the text of a message: its text parts, joined. */
export function textOf(message: Message): string {
  return message.parts.map((part) => (part.type === "text" ? part.text : "")).join("");
}

/** Returns the tools a message asks for. */
export function toolCallsOf(message: Message): ToolCall[] {
  return message.parts.flatMap((part) =>
    part.type === "toolCall" ? [{ id: part.id, name: part.name, arguments: part.arguments }] : [],
  );
}
