/** An order in a shop whose engine is lost and restored from a backup: `main.ts`. */
import { setTimeout as delay } from "node:timers/promises";
import { type StepHandle, workflow } from "@cellaflow/sdk";
import * as z from "zod";

/** Long enough for the engine to be lost in the middle, in ms. */
const PACKING_MS = 2_000;

export const order = workflow({ name: "restore-order", version: "1", input: z.string() }, async (ctx, what) => {
  await ctx.step("reserve", () => `one ${what}`);
  await ctx.signal("paid", z.boolean());
  // At most once, says the ledger. What is not in the ledger any more, it cannot say.
  await ctx.step("thank", thank, { input: what, idempotencyKey: `thank you for buying ${what}`, timeoutMs: 3_000 });
  return ctx.step("pack", async (_, { signal }) => {
    await delay(PACKING_MS, undefined, { signal });
    return `a parcel with ${what}`;
  });
});

/** Sends a message; `CHARGE_URL` names the server that sends it. */
async function thank(_what: string, { idempotencyKey }: StepHandle): Promise<void> {
  const headers = { "idempotency-key": idempotencyKey, "content-type": "application/json" };
  const answer = await fetch(`${process.env.CHARGE_URL}/charge`, { method: "POST", headers, body: "{}" });
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
}
