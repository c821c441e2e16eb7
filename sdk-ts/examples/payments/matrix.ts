/** Two orders that pay the same invoice in the kill matrix: killed in either of them, the bank is asked once. */
import type { MatrixExample, MatrixRun, UnknownEffect } from "#sdk/matrix/example.js";
import { checkout, payment } from "./workflow.js";

async function charged(
  _effect: UnknownEffect,
  { world, key }: MatrixRun,
): Promise<{ applied: unknown } | "notApplied"> {
  const invoice = `invoice ${key}`;
  return (await world.charges(invoice)) > 0 ? { applied: `receipt of ${invoice}` } : "notApplied";
}

export default {
  name: "payments",
  workflows: [checkout, payment],
  workflow: checkout,
  input: (_world, key) => ({ invoice: key, cents: 4_200, orders: ["order 1", "order 2"] }),
  truth: charged,
} satisfies MatrixExample<{ invoice: string; cents: number; orders: string[] }>;
