/**
 * The upgrade in the kill matrix: every other worker process is of the next release, so sessions of 1.0.0 pass back and
 * forth between code of 1.0.0 and compatible code at whatever event the kill comes.
 */
import type { MatrixExample, MatrixRun, UnknownEffect } from "#sdk/matrix/example.js";
import { v1, v1_1, v2 } from "./workflow.js";

async function truth(
  { stepKey }: UnknownEffect,
  { world, key }: MatrixRun,
): Promise<{ applied: unknown } | "notApplied"> {
  const name = /([a-z]+)#\d+$/.exec(stepKey)?.[1] ?? "";
  const booking = `${name} ${key}`;
  return (await world.charges(booking)) > 0 ? { applied: `booked ${booking}` } : "notApplied";
}

export default {
  name: "upgrade",
  workflows: process.pid % 2 === 0 ? [v1, v2] : [v1_1, v2],
  workflow: v1,
  input: (_world, key) => ({ order: key, cents: 4_200, packingMs: 150 }),
  truth,
} satisfies MatrixExample<{ order: string; cents: number; packingMs: number }>;
