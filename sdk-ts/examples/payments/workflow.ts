/**
 * Orders that pay the same invoice: the bank is asked once, whoever gets there first, and every order has the receipt.
 *
 * The idempotency key names the effect ("this invoice"), not who wants it. The first order sends its intent and calls;
 * the others wait for what comes of it and record the same output as their own, saying where it is from
 * (`deduplicated_from`). Killed between call and answer, nobody calls again until it is known what happened.
 */
import { workflow } from "@cellaflow/sdk";
import * as z from "zod";

const Invoice = z.object({ invoice: z.string(), cents: z.number().int().positive() });
const Payment = Invoice.extend({ order: z.string() });

export const payment = workflow({ name: "payment", version: "1", input: Payment }, async (ctx, { order, ...owed }) => {
  const receipt = await ctx.step(
    "charge",
    async ({ cents }, step) => {
      const headers = { "idempotency-key": step.idempotencyKey };
      const body = JSON.stringify({ cents });
      const answer = await fetch(`${process.env.CHARGE_URL}/charge`, {
        method: "POST",
        headers,
        body,
        signal: step.signal,
      });
      if (!answer.ok) throw new Error(`the bank answered ${answer.status}`);
      return `receipt of ${((await answer.json()) as { key: string }).key}`;
    },
    // One effect has one key and one input: the order's own number belongs in neither.
    { input: owed, idempotencyKey: `invoice ${owed.invoice}`, timeoutMs: 3_000, totalTimeoutMs: 600_000 },
  );
  return { order, receipt };
});

/** Several orders of one customer, each a session of its own. */
export const checkout = workflow(
  { name: "checkout", version: "1", input: Invoice.extend({ orders: z.array(z.string()).min(1) }) },
  (ctx, { orders, ...owed }) =>
    ctx.map(orders, (order, inner) => inner.spawn(payment, { order, ...owed }).result(), { key: (order) => order }),
);
