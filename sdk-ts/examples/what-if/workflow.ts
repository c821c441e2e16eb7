/**
 * A purchasing agent: looks at the stock, lets a model decide, orders. What it would have done with another stock is asked
 * afterwards, in a fork (`main.ts`): the order is a guarded effect, so no fork places one.
 */
import { type Finding, type StepHandle, workflow } from "@cellaflow/sdk";
import * as z from "zod";

const Input = z.object({
  product: z.string(),
  model: z.string(),
  /** Whether it ends only after somebody has looked at the order. */
  review: z.boolean().default(false),
});

export interface Stock {
  onHand: number;
  soldPerDay: number;
}

export const purchasing = workflow({ name: "purchasing", version: "1", input: Input }, async (ctx, input) => {
  const { product, model } = input;
  const stock = await ctx.step("stock", look, { input: product });
  ctx.state.set("stock", stock);
  ctx.messages.push({ role: "user", parts: [{ type: "text", text: question(product, stock) }] });
  const answer = await ctx.llm.generate(model, { messages: question(product, stock) });
  const units = Number(/\d+/.exec(answer.text)?.[0] ?? 0);
  ctx.state.set("units", units);
  if (units === 0) return { product, units, order: "none" };
  const order = await ctx.step("order", place, {
    input: { product, units },
    effect: "guarded",
    timeoutMs: 3_000,
    reconcile: placed,
  });
  if (input.review) await ctx.signal("reviewed", z.boolean());
  return { product, units, order };
});

function question(product: string, { onHand, soldPerDay }: Stock): string {
  return `We have ${onHand} of "${product}" and sell ${soldPerDay} a day. How many should we order for 14 days? Answer with a number.`;
}

/** The warehouse. */
function look(product: string): Stock {
  return { onHand: product.length, soldPerDay: 4 };
}

/** `CHARGE_URL` names the supplier. */
async function place(what: { product: string; units: number }, step: StepHandle): Promise<string> {
  const answer = await fetch(new URL("/charge", process.env.CHARGE_URL), {
    method: "POST",
    headers: { "idempotency-key": step.idempotencyKey, "content-type": "application/json" },
    body: JSON.stringify(what),
    signal: step.signal,
  });
  if (!answer.ok) throw new Error(`the supplier answers ${answer.status}`);
  return "ordered";
}

/** Asks the supplier about an attempt whose outcome is unknown. */
async function placed(_what: unknown, step: StepHandle): Promise<Finding<string>> {
  const url = new URL("/count", process.env.CHARGE_URL);
  url.searchParams.set("key", step.idempotencyKey);
  const answer = await fetch(url, { signal: step.signal });
  if (!answer.ok) return "unknown";
  const { count } = (await answer.json()) as { count: number };
  return count > 0 ? { applied: "ordered" } : "notApplied";
}
