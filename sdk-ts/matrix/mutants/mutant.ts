/**
 * Examples with one mistake each, that the matrix has to find. No part of the matrix itself.
 */
import { setTimeout as delay } from "node:timers/promises";
import { type Context, workflow } from "@cellaflow/sdk";
import { z } from "zod";
import type { MatrixExample } from "../example.js";

const Input = z.object({ run: z.string() });

/** What a session does first, in ms: long enough that it is known and the worker has been told where to hit itself. */
const PRELUDE_MS = 300;

/** Makes an example of code with a mistake. */
export function mutant(name: string, run: (ctx: Context, input: z.infer<typeof Input>) => Promise<unknown>) {
  const mistaken = workflow({ name, version: "1", input: Input }, async (ctx, input) => {
    await ctx.step("prelude", () => delay(PRELUDE_MS));
    return run(ctx, input);
  });
  const example: MatrixExample<z.input<typeof Input>> = {
    name,
    workflows: [mistaken],
    workflow: mistaken,
    input: (_world, key) => ({ run: key }),
  };
  return example;
}

/** Charges, and takes its time before it comes back: long enough to be killed there. */
export async function charge(key: string): Promise<unknown> {
  const answer = await fetch(`${process.env.CHARGE_URL}/charge`, {
    method: "POST",
    headers: { "idempotency-key": key },
    body: "{}",
  });
  await answer.json();
  await delay(1_500);
  return { charged: key };
}
