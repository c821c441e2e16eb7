/** The campaign's model, which answers nothing until it is told to: so many calls are under way as the budget lets be. */
import type { ScriptedReply } from "@cellaflow/sdk/testing";

/** What an answer costs: nearly its worst case. */
export const USAGE = { promptTokens: 50, completionTokens: 100 };

export default function script(): ScriptedReply {
  return { content: "Ride on.", usage: USAGE, fault: { stallAtByte: 1 } };
}
