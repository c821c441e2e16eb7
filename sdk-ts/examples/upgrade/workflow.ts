/**
 * An upgrade while orders sleep: three releases of one workflow.
 *
 * A session runs to its end on the version that it started on. 1.1.0 says that it goes on with sessions of 1.0.0: up to
 * where they can be it asks for the same, in the same words or others. 2.0.0 does not: its own orders only.
 */
import { type Context, type StepHandle, workflow } from "@cellaflow/sdk";
import * as z from "zod";

const Order = z.object({ order: z.string(), cents: z.number(), packingMs: z.number() });
type Order = z.infer<typeof Order>;

/** Books something; a key is booked at most once. */
async function book(amount: number, { idempotencyKey }: StepHandle): Promise<string> {
  const answer = await fetch(`${process.env.CHARGE_URL}/charge`, {
    method: "POST",
    headers: { "idempotency-key": idempotencyKey, "content-type": "application/json" },
    body: JSON.stringify({ amount }),
  });
  if (!answer.ok) throw new Error(`the books answered ${answer.status}`);
  return `booked ${idempotencyKey}`;
}

function booked(ctx: Context, name: string, order: string, amount: number): Promise<string> {
  return ctx.step(name, book, { input: amount, idempotencyKey: `${name} ${order}`, timeoutMs: 3_000 });
}

/** The first release. */
export const v1 = workflow(
  { name: "order", version: "1.0.0", input: Order },
  async (ctx, { order, cents, packingMs }) => {
    const shelf = await ctx.step("find", () => `shelf of ${order}`, { input: order });
    await booked(ctx, "charge", order, cents);
    await ctx.sleep("packing", packingMs);
    const parcel = await ctx.step("pack", () => `${order} from the ${shelf}`);
    await booked(ctx, "ship", order, 1);
    return { parcel };
  },
);

/** Compatible: what steps do inside, what they are called in the code and what is logged may change. */
export const v1_1 = workflow(
  { name: "order", version: "1.1.0", compatible: ["1.0.0"], input: Order },
  async (ctx, input) => {
    const { order, cents } = input;
    const found = await ctx.step("find", () => ["shelf", "of", order].join(" "), { input: order });
    await booked(ctx, "charge", order, cents);
    await packed(ctx, input);
    const parcel = await ctx.step("pack", () => [order, "from the", found].join(" "));
    await booked(ctx, "ship", order, 1);
    return { parcel };
  },
);

/** Not compatible: it charges after packing. Orders that were charged before would be asked for something else. */
export const v2 = workflow({ name: "order", version: "2.0.0", input: Order }, async (ctx, input) => {
  const { order, cents } = input;
  const shelf = await ctx.step("find", () => `shelf of ${order}`, { input: order });
  await packed(ctx, input);
  await booked(ctx, "charge", order, cents);
  const parcel = await ctx.step("pack", () => `${order} from the ${shelf}`);
  await booked(ctx, "ship", order, 1);
  return { parcel };
});

function packed(ctx: Context, { packingMs }: Order): Promise<void> {
  return ctx.sleep("packing", packingMs);
}
