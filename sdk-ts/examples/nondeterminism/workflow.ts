/**
 * Code that was changed without giving it a new version: it asks a recorded step with another input.
 *
 * Nobody can know whether the recorded quote is still the right one, so the session pauses and shows both sides. A person
 * accepts what the new code asks for (the recorded outcome stands for it), or forks the session before the quote.
 */
import { type Context, workflow } from "@cellaflow/sdk";
import * as z from "zod";

export const Input = z.object({ order: z.string() });

const PRICES = { EUR: 100, USD: 110 } as const;
export type Currency = keyof typeof PRICES;

export function quote(ctx: Context, order: string, currency: Currency): Promise<string> {
  return ctx.step("quote", () => `${PRICES[currency]} ${currency}`, { input: { order, currency } });
}

/** Ships once somebody has confirmed the quote. */
export async function ship(ctx: Context, order: string): Promise<string> {
  await ctx.signal("confirmed", z.boolean());
  return ctx.step("ship", () => `a parcel with ${order}`);
}

/** The code that sessions began with … */
export const asStarted = workflow({ name: "nondeterminism", version: "1", input: Input }, async (ctx, { order }) => ({
  quote: await quote(ctx, order, "EUR"),
  parcel: await ship(ctx, order),
}));

/** … and what became of it: the same version, another input of the same step. */
export const asChanged = workflow({ name: "nondeterminism", version: "1", input: Input }, async (ctx, { order }) => ({
  quote: await quote(ctx, order, "USD"),
  parcel: await ship(ctx, order),
}));
