/**
 * A refund that a person has to approve. The approval is bound to exactly this call; the refund is a guarded step, so it is
 * never paid twice. While it waits no process holds the session.
 */
import { type Finding, type StepHandle, workflow } from "@cellaflow/sdk";
import * as z from "zod";

const Input = z.object({
  order: z.string(),
  cents: z.number().int(),
  /** How long it may be approved, in ms. */
  expiresIn: z.number(),
});

interface Refund {
  order: string;
  cents: number;
}

export const refunds = workflow({ name: "refunds", version: "1", input: Input }, async (ctx, input) => {
  const { order, cents, expiresIn } = input;
  const args: Refund = { order, cents };
  ctx.state.set("status", "waiting for approval");
  const { decision, by, comment } = await ctx.approval("refund", { toolCall: "refund", args, expiresIn });
  ctx.state.set("status", decision);
  if (decision !== "approved") return { refunded: 0, decision, by, comment };
  const receipt = await ctx.step("refund", pay, { input: args, effect: "guarded", timeoutMs: 3_000, reconcile: paid });
  return { refunded: cents, decision, by, comment, receipt };
});

/** `CHARGE_URL` names the bank. */
async function pay({ order, cents }: Refund, step: StepHandle): Promise<string> {
  const answer = await fetch(new URL("/charge", process.env.CHARGE_URL), {
    method: "POST",
    headers: { "idempotency-key": step.idempotencyKey, "content-type": "application/json" },
    body: JSON.stringify({ order, cents: -cents }),
    signal: step.signal,
  });
  if (!answer.ok) throw new Error(`the bank answers ${answer.status}`);
  return `refund of ${order}`;
}

/** Asks the bank about an attempt whose outcome is unknown. */
async function paid({ order }: Refund, step: StepHandle): Promise<Finding<string>> {
  const url = new URL("/count", process.env.CHARGE_URL);
  url.searchParams.set("key", step.idempotencyKey);
  const answer = await fetch(url, { signal: step.signal });
  if (!answer.ok) return "unknown";
  const { count } = (await answer.json()) as { count: number };
  return count > 0 ? { applied: `refund of ${order}` } : "notApplied";
}
