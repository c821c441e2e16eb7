/**
 * Begins an order with one code and goes on with another: node dist/examples/nondeterminism/main.js [ORDER] [--fork]
 *
 * It ends paused, with both sides shown. Accept what the new code asks for and start it again with the same order, or start
 * it again with `--fork`: then the session is forked before the step that differs, and the fork asks for the quote anew.
 */
import { parseArgs } from "node:util";
import { createClient, type SessionResult, type Workflow } from "@cellaflow/sdk";
import { asChanged, asStarted } from "./workflow.js";

const { values, positionals } = parseArgs({ allowPositionals: true, options: { fork: { type: "boolean" } } });
const [order = "tea"] = positionals;
const client = createClient();

/** Runs a session; where it waits for a confirmation, it gets one. */
async function goOn<O>(workflow: Workflow<{ order: string }, O>, sessionId: string): Promise<SessionResult<O>> {
  const result = await client.runSession(workflow, sessionId);
  if (result.status !== "waiting") return result;
  await client.signal(sessionId, "confirmed", true, { id: "confirmed" });
  return client.runSession(workflow, sessionId);
}

/** The event before a step's outcome: the last one that a fork may have if it is to do the step anew. */
async function before(sessionId: string, stepKey: string): Promise<number> {
  for await (const event of client.attach(sessionId).events({ live: false })) {
    if (event.kind === "stepCompleted" && event.stepKey === stepKey) return event.seq - 1;
  }
  throw new Error(`nothing is recorded of ${stepKey}`);
}

const { sessionId, created } = await client.start(asStarted, { order }, { key: order });
if (created) await client.runSession(asStarted, sessionId); // The quote is recorded; it waits.

if (values.fork) {
  const fork = await client.fork(sessionId, { fromSeq: await before(sessionId, "quote#1"), key: `${order} anew` });
  const result = await goOn(asChanged, fork.sessionId);
  console.log("the fork:", result.status === "completed" ? result.output : result);
} else {
  const result = await goOn(asChanged, sessionId);
  if (result.status === "paused") {
    console.log(`paused: ${result.reason}\n  cellaflow sessions show ${sessionId}`);
    console.log(`  cellaflow sessions accept ${sessionId}     then start this again, or start it with --fork`);
  } else console.log(result.status === "completed" ? result.output : result);
}
