/** A catalogue that is read page by page: what operators do to it while it is at work is in `main.ts`. */
import { workflow } from "@cellaflow/sdk";
import * as z from "zod";

const Input = z.object({
  shop: z.string(),
  /** Default: it reads until somebody stops it. */
  pages: z.number().int().optional(),
  /** Time between two pages, in ms. */
  everyMs: z.number().default(20),
});

export const catalogue = workflow(
  { name: "operations-catalogue", version: "1", input: Input },
  async (ctx, { shop, pages = Number.POSITIVE_INFINITY, everyMs }) => {
    ctx.onCancel((cleanup) => cleanup.step("tidy", () => `what was read of ${shop} is thrown away`));
    for (let page = 1; page <= pages; page++) {
      await ctx.step("page", () => `page ${page} of ${shop}`, { input: page });
      ctx.state.set("pages", page);
      await ctx.sleep("next", everyMs);
    }
    // A publisher that is down at first: two attempts, then a person has to look.
    const published = await ctx.step(
      "publish",
      (_, { attempt }) => {
        if (attempt <= 2) throw new Error("the publisher is down");
        return `${shop} is published`;
      },
      { retry: { maxAttempts: 2, onExhausted: "pause", backoff: { initialMs: 20 } } },
    );
    return published;
  },
);
