/**
 * A support desk: a conversation that customers drive with signals, for hours or weeks. Between two messages no process
 * holds the session. Its state and conversation can be looked at all the time (`client.query`).
 */
import { workflow } from "@cellaflow/sdk";
import * as z from "zod";

const SYSTEM = "You answer customers of a bicycle shop, in one or two sentences.";

/** What customers send; as one signal, so that messages and the end of the talk keep their order. */
export const Said = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("message"), text: z.string() }),
  z.object({ kind: z.literal("goodbye") }),
]);

const Input = z.object({
  customer: z.string(),
  model: z.string(),
  /** The talk ends when nothing was said for so long, in ms. */
  idleMs: z.number(),
});

export const supportDesk = workflow({ name: "support-desk", version: "1", input: Input }, async (ctx, input) => {
  const { customer, model, idleMs } = input;
  ctx.state.set("customer", customer);
  for (let turn = 1; ; turn++) {
    ctx.state.set("status", "waiting for the customer");
    // Messages that come while an answer is being written are kept, and taken one by one.
    const said = await ctx.signal("said", Said, { timeoutMs: idleMs });
    if (said === undefined || said.kind === "goodbye") {
      ctx.state.set("status", "closed");
      const last = ctx.messages.list.at(-1);
      return { turns: turn - 1, messages: ctx.messages.length, why: said?.kind ?? "idle", last: last?.parts };
    }
    ctx.messages.push({ role: "user", content: said.text });
    ctx.state.set("status", "answering");
    const answer = await ctx.llm.generate(model, { name: "answer", system: SYSTEM });
    ctx.messages.push(answer.message);
    ctx.state.set("turns", turn);
  }
});
