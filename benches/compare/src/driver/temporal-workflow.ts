/** Temporal's workflow code: it runs in a sandbox that sees nothing but this file. */
import { condition, defineSignal, proxyActivities, proxySinks, type Sinks, setHandler } from "@temporalio/workflow";
import type { Session } from "../job.js";
import type { Activities } from "./temporal.js";

/** Calls out of the sandbox that are not recorded. */
export interface BenchSinks extends Sinks {
  bench: { entered(id: string): void };
}

/** Lets a session go on that was recorded up to `dieAfter`. */
export const proceed = defineSignal("proceed");

const activities = proxyActivities<Activities>({
  startToCloseTimeout: "1 minute",
});
const sinks = proxySinks<BenchSinks>();

export async function bench(session: Session): Promise<number> {
  let may = false;
  setHandler(proceed, () => {
    may = true;
  });
  sinks.bench.entered(session.id);
  if (session.kind === "conversation") return converse(session);
  for (let n = 0; n < session.steps; n++) {
    if (session.dieAfter > 0 && n === session.dieAfter) await condition(() => may);
    await activities.step(session, n);
  }
  return session.steps;
}

/** What an activity is asked is journaled: of a model call, the whole conversation. */
async function converse(session: Session): Promise<number> {
  const messages: string[] = [];
  for (let n = 0; n < session.steps; n++) {
    messages.push(await activities.tool(session, 2 * n));
    messages.push(await activities.model(session, 2 * n + 1, messages));
  }
  return messages.length;
}
