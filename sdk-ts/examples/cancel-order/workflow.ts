/**
 * An order that can be cancelled while it waits for its parcel: what was done is undone, last first, each exactly once.
 *
 * Effects and their undoing are guarded: killed in the middle of a refund, the next process neither refunds twice nor
 * forgets it. `cellaflow sessions cancel` (or `client.cancel`) starts it; a kill in the cleanup does not end it.
 */
import { type Context, type StepOptions, workflow } from "@cellaflow/sdk";
import * as z from "zod";

/** Calls the shop's books; a key is booked at most once. */
async function book(key: string, amount: number): Promise<string> {
  const answer = await fetch(`${process.env.CHARGE_URL}/charge`, {
    method: "POST",
    headers: { "idempotency-key": key, "content-type": "application/json" },
    body: JSON.stringify({ amount }),
  });
  if (!answer.ok) throw new Error(`the books answered ${answer.status}`);
  return `booked ${key}`;
}

function booked(ctx: Context, name: string, order: string, amount: number): Promise<string> {
  const options = { input: amount, idempotencyKey: `${name} ${order}`, timeoutMs: 3_000 } satisfies StepOptions<number>;
  return ctx.step(name, (input, step) => book(step.idempotencyKey, input), options);
}

export const cancelOrder = workflow(
  { name: "cancel-order", version: "1", input: z.object({ order: z.string(), cents: z.number() }) },
  async (ctx, { order, cents }) => {
    // Registered before the effect: should the request to cancel come while it runs, its outcome is known in the cleanup.
    let reserved: string | undefined;
    ctx.onCancel(async (cleanup) => {
      if (reserved !== undefined) cleanup.state.set("released", await booked(cleanup, "release", order, 1));
    });
    reserved = await booked(ctx, "reserve", order, 1);

    let charged: string | undefined;
    ctx.onCancel(async (cleanup) => {
      if (charged !== undefined) cleanup.state.set("refunded", await booked(cleanup, "refund", order, -cents));
    });
    charged = await booked(ctx, "charge", order, cents);

    const parcel = await ctx.signal("delivered", z.object({ tracking: z.string() }));
    return { order, tracking: parcel.tracking };
  },
);
