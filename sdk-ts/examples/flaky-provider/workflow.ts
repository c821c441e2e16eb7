/**
 * An agent whose surroundings fail: a service that is down for two attempts, a payment that says "not applied, try again",
 * and a publisher that stays down until a person has looked at it.
 *
 * Attempts survive crashes: killed between two of them, the next process goes on counting. The publisher's attempts are
 * used up after two: the session pauses (`retries_exhausted`) and holds no process. `cellaflow sessions retry` gives the
 * step all its attempts again.
 */
import { NotApplied, workflow } from "@cellaflow/sdk";
import * as z from "zod";

const QUICK = { initialMs: 20, maxMs: 100 };

export const flakyProvider = workflow(
  { name: "flaky-provider", version: "1", input: z.object({ order: z.string() }) },
  async (ctx, { order }) => {
    const price = await ctx.step(
      "quote",
      (_, step) => {
        if (step.attempt <= 2) throw new Error("503: the price service is restarting");
        return 4_200;
      },
      { input: order, retry: { maxAttempts: 5, backoff: QUICK } },
    );

    const receipt = await ctx.step(
      "charge",
      async (cents, step) => {
        // Said before anything was sent, so nobody has to ask whether it happened.
        if (step.attempt === 1) throw new NotApplied("no connection to the bank");
        const headers = { "idempotency-key": step.idempotencyKey };
        const answer = await fetch(`${process.env.CHARGE_URL}/charge`, {
          method: "POST",
          headers,
          body: JSON.stringify({ cents }),
        });
        if (!answer.ok) throw new Error(`the bank answered ${answer.status}`);
        return ((await answer.json()) as { key: string }).key;
      },
      {
        input: price,
        idempotencyKey: `charge ${order}`,
        onUnknown: "pause",
        timeoutMs: 3_000,
        retry: { backoff: QUICK },
      },
    );

    const published = await ctx.step(
      "publish",
      (_, step) => {
        if (step.attempt <= 2) throw new Error("the publisher is down");
        return "published";
      },
      { retry: { maxAttempts: 2, onExhausted: "pause", backoff: QUICK } },
    );
    return { price, receipt, published };
  },
);
