/** The scripted model of the agent of many turns: asks for the next page until all were seen. */
import type { ScriptedReply, ScriptedRequest } from "@cellaflow/sdk/testing";

export default function script({ messages }: ScriptedRequest): ScriptedReply {
  const page = messages.filter(({ role }) => role === "assistant").length + 1;
  const content = `I have seen ${page - 1} pages and go on with the next one, as I was told.`;
  return { content, toolCalls: [{ id: `call-${page}`, name: "look", arguments: { page } }] };
}
