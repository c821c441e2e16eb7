/** Letters to customers, to be found again: each has labels, and costs what its model call costs. */
import { workflow } from "@cellaflow/sdk";
import * as z from "zod";

const Input = z.object({ customer: z.string(), model: z.string(), sign: z.boolean() });

function letter(version: string) {
  return workflow({ name: "search-letter", version, input: Input }, async (ctx, { customer, model, sign }) => {
    const { text } = await ctx.llm.generate(model, { messages: `A letter to ${customer}.` });
    if (sign) await ctx.signal("signed", z.boolean());
    return text;
  });
}

/** Two releases; sessions are found by the one they run on. */
export const letters = [letter("1"), letter("2")] as const;
