/**
 * Cache breakpoints for providers that want to be told where to keep what they have read.
 *
 * Owns: the marks on messages of this SDK. Never: decides where breakpoints are.
 */
import type { Message, MessagePart } from "../runtime/messages.js";
import type { PromptContext } from "./types.js";

const EPHEMERAL = { cache_control: { type: "ephemeral" } };

/**
 * Returns the messages of a prompt with `cache_control` at its breakpoints, for `ctx.llm` and an OpenAI-compatible server that
 * hands it on to a model of Anthropic's. Other providers need nothing: they keep prefixes by themselves.
 *
 * @example
 * await ctx.llm.generate(model, { messages: withCacheControl(await ctx.context()), tools });
 */
export function withCacheControl({
  messages,
  breakpoints,
}: Pick<PromptContext, "messages" | "breakpoints">): Message[] {
  const marked = new Map(breakpoints.map(({ message, part }) => [`${message} ${part}`, true]));
  return messages.map((message, index) => {
    if (!message.parts.some((_, part) => marked.has(`${index} ${part}`))) return message;
    return { ...message, parts: message.parts.map((part, at) => (marked.has(`${index} ${at}`) ? mark(part) : part)) };
  });
}

function mark(part: MessagePart): MessagePart {
  // What a provider has signed is not touched.
  if (part.type !== "text" && part.type !== "toolResult") return part;
  const metadata = part.providerMetadata === undefined ? {} : (JSON.parse(part.providerMetadata) as object);
  return { ...part, providerMetadata: JSON.stringify({ ...metadata, ...EPHEMERAL }) };
}
