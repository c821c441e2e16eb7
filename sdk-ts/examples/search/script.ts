/** What the scripted model answers: longer letters, which cost more, for customers with higher numbers. */
import type { ScriptedReply, ScriptedRequest } from "@cellaflow/sdk/testing";

export default function script({ messages }: ScriptedRequest): ScriptedReply {
  const [, customer = "", number = "0"] = /to (\w+-(\d+))\./.exec(String(messages.at(-1)?.content)) ?? [];
  return { content: `Dear ${customer}.`, usage: { promptTokens: 100, completionTokens: 1_000 * Number(number) } };
}
