/**
 * The changed code in the kill matrix: a process asks for the quote in the old way until it has seen one, and in the new way
 * from then on; a person accepts whenever the session is paused for it.
 */
import { workflow } from "@cellaflow/sdk";
import type { MatrixExample, MatrixRun, SeenSession } from "#sdk/matrix/example.js";
import { asStarted, Input, quote, ship } from "./workflow.js";

const quoted = new Set<string>();
const { name, version } = asStarted;

const changing = workflow({ name, version, input: Input }, async (ctx, { order }) => {
  const price = await quote(ctx, order, quoted.has(order) ? "USD" : "EUR");
  quoted.add(order);
  return { quote: price, parcel: await ship(ctx, order) };
});

async function someoneLooks({ info }: SeenSession, { client }: MatrixRun): Promise<undefined> {
  if (info.pauseReason === "nondeterminism") await client.acceptDivergence(info.sessionId);
  // Confirmed when nobody holds it any more, so that whoever goes on runs the code from its start.
  else if (info.status === "waiting") await client.signal(info.sessionId, "confirmed", true, { id: "confirmed" });
}

export default {
  name: "nondeterminism",
  workflows: [changing],
  workflow: changing,
  input: (_world, key) => ({ order: key }),
  outside: someoneLooks,
  diverges: true,
} satisfies MatrixExample<{ order: string }>;
