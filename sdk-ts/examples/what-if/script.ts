/** What the scripted model answers the purchasing agent: what 14 days need beyond the stock. */
import type { ScriptedReply, ScriptedRequest } from "@cellaflow/sdk/testing";

export default function script(request: ScriptedRequest): ScriptedReply {
  const asked = request.messages.map(({ content }) => (typeof content === "string" ? content : "")).join("\n");
  const [, onHand = "0", perDay = "0"] = /We have (\d+) of .* sell (\d+) a day/.exec(asked) ?? [];
  return { content: String(Math.max(0, 14 * Number(perDay) - Number(onHand))) };
}
