/**
 * A chat: each message is a signal, each answer a zone that streams. Between messages the session waits and holds no
 * process; after a day without one it ends.
 */
import { workflow } from "@cellaflow/sdk";
import { z } from "zod";

const IDLE_MS = 24 * 60 * 60 * 1_000;

export const chat = workflow(
  { name: "chat", version: "1", input: z.object({ model: z.string() }) },
  async (ctx, input) => {
    ctx.messages.push({ role: "system", parts: [{ type: "text", text: "You are brief and kind." }] });
    for (let turns = 0; ; turns++) {
      const text = await ctx.signal("message", z.string(), { timeoutMs: IDLE_MS });
      if (text === undefined || text === "/bye") return { turns };
      ctx.messages.push({ role: "user", parts: [{ type: "text", text }] });
      const answer = await ctx.llm.stream(input.model, { name: "answer" }).final;
      ctx.messages.push(answer.message);
    }
  },
);
