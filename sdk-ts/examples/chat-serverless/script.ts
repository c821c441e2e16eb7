/** What the scripted model says in the chat: an answer that names the question and how many it has heard. */
import type { ScriptedReply, ScriptedRequest } from "@cellaflow/sdk/testing";

export default function script(request: ScriptedRequest): ScriptedReply {
  return {
    content: answerTo(request.messages.filter(({ role }) => role === "user").map(({ content }) => String(content))),
  };
}

/** The answer after these messages. */
export function answerTo(asked: readonly string[]): string {
  const words = Array.from({ length: 30 }, (_, n) => `wört-${n} 😀`);
  return `You asked ${asked.length} times, now: ${asked.at(-1)}. ${words.join(" ")}`;
}
