/** What the scripted model answers: a slogan, for nearly all that it may cost. */
import type { ScriptedReply, ScriptedRequest } from "@cellaflow/sdk/testing";

export default function script({ messages }: ScriptedRequest): ScriptedReply {
  const [, number = "0"] = /number (\d+)/.exec(String(messages.at(-1)?.content)) ?? [];
  return { content: `Ride on, ${number} times over.`, usage: { promptTokens: 50, completionTokens: 100 } };
}
