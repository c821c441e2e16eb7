/** The order in the kill matrix: cancelled while it waits; killed in its effects and in their undoing. */
import type { MatrixExample, MatrixRun, SeenSession, UnknownEffect } from "#sdk/matrix/example.js";
import { cancelOrder } from "./workflow.js";

async function cancel({ info, events }: SeenSession, { client }: MatrixRun): Promise<undefined> {
  if (info.cancelRequested || !events.some(({ kind }) => kind === "signalAwaited")) return;
  await client.cancel(info.sessionId, { reason: "ordered by mistake" });
}

async function truth(
  { stepKey }: UnknownEffect,
  { world, key }: MatrixRun,
): Promise<{ applied: unknown } | "notApplied"> {
  const name = /([a-z]+)#\d+$/.exec(stepKey)?.[1] ?? "";
  const booking = `${name} ${key}`;
  return (await world.charges(booking)) > 0 ? { applied: `booked ${booking}` } : "notApplied";
}

export default {
  name: "cancel-order",
  workflows: [cancelOrder],
  workflow: cancelOrder,
  input: (_world, key) => ({ order: key, cents: 4_200 }),
  outside: cancel,
  truth,
  ends: "cancelled",
} satisfies MatrixExample<{ order: string; cents: number }>;
