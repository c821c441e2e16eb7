/**
 * A campaign that may not cost more than it may: one child session per slogan, all of them at once, under one budget.
 *
 * Each model call reserves its worst case before it is made, durably and whoever makes it: 64 children that ask in the same
 * moment cannot spend the same dollar. A child that finds too little left pauses, without an error in this code; when
 * somebody raises the budget it goes on, and what was answered before is not asked again.
 */
import { workflow } from "@cellaflow/sdk";
import * as z from "zod";

/** Named, because the reservation is as large as an answer may be. */
export const ANSWER_TOKENS_MAX = 100;

export const slogan = workflow(
  { name: "spend-cap-slogan", version: "1", input: z.object({ number: z.number(), model: z.string() }) },
  async (ctx, { number, model }) => {
    const messages = `Slogan number ${number} for a bicycle shop, in one sentence.`;
    return (await ctx.llm.generate(model, { messages, maxTokens: ANSWER_TOKENS_MAX })).text;
  },
);

export const campaign = workflow(
  { name: "spend-cap", version: "1", input: z.object({ slogans: z.number(), model: z.string() }) },
  async (ctx, { slogans, model }) => {
    const children = Array.from({ length: slogans }, (_, at) => ctx.spawn(slogan, { number: at + 1, model }));
    return { slogans: await Promise.all(children.map((child) => child.result())) };
  },
);

export const spendCap = [campaign, slogan] as const;
