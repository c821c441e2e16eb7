/** What the scripted model answers customers when no real one is configured. */
import type { ScriptedReply, ScriptedRequest } from "@cellaflow/sdk/testing";

export default function script(request: ScriptedRequest): ScriptedReply {
  const asked = request.messages.filter((message) => message.role === "user");
  const last = asked.at(-1)?.content;
  const text = typeof last === "string" ? last : JSON.stringify(last);
  return { content: `That is your question number ${asked.length}: ${text} We look at it tomorrow.` };
}
