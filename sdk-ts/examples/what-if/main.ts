/**
 * Runs the purchasing agent, then asks what it would have done with another stock:
 *
 *     node dist/examples/what-if/main.js [PRODUCT] [ON HAND] [SOLD PER DAY]
 *
 * The finished session is forked before its decision, with another output of the step that looked at the stock; the fork
 * decides anew and places no order. Both branches are compared by outcomes, tokens and cost. `OPENAI_BASE_URL` names the
 * model (default: a scripted one), `CHARGE_URL` the supplier (default: a counting server of this process).
 */
import { createClient } from "@cellaflow/sdk";
import { purchasing } from "./workflow.js";

const [product = "pumps", onHand = "60", soldPerDay = "4"] = process.argv.slice(2);
const { env } = process;
const closing: (() => Promise<unknown>)[] = [];
if (!env.OPENAI_BASE_URL || !env.CHARGE_URL) {
  const { startCountingServer, startScriptedLlm } = await import("@cellaflow/sdk/testing");
  if (!env.OPENAI_BASE_URL) {
    const { default: script } = await import("./script.js");
    const llm = await startScriptedLlm({ script });
    env.OPENAI_BASE_URL = llm.baseUrl;
    closing.push(() => llm.close());
  }
  if (!env.CHARGE_URL) {
    const supplier = await startCountingServer();
    env.CHARGE_URL = supplier.url;
    closing.push(() => supplier.close());
  }
}

const client = createClient();
const model = env.WHAT_IF_MODEL ?? "scripted-1";
const happened = await client.run(purchasing, { product, model }, { key: `purchase of ${product}` });
console.log("happened:", happened.status === "completed" ? happened.output : happened);

const output = { onHand: Number(onHand), soldPerDay: Number(soldPerDay) };
const fork = await client.fork(happened.sessionId, { edits: [{ step: "stock#1", output }] });
const whatIf = await client.runSession(purchasing, fork.sessionId);
console.log("what if: ", whatIf.status === "completed" ? whatIf.output : whatIf);

const { commonSeq, a, b, steps } = await client.diff(happened.sessionId, fork.sessionId);
console.log(`\nin common: events 1 to ${commonSeq}`);
for (const { stepKey, a: one, b: other } of steps) {
  const text = (outcome: typeof one) => JSON.stringify(outcome?.output ?? outcome?.failure?.message ?? null);
  console.log(`${stepKey}: ${text(one)} -> ${text(other)}`);
}
const spent = ({ own }: typeof a) => `${own.steps} steps, ${own.tokens} tokens, $${(own.costNanos / 1e9).toFixed(6)}`;
console.log(`after that: ${spent(a)} -> ${spent(b)}`);
console.log(`\nthe same on the command line:\n  cellaflow sessions diff ${a.sessionId} ${b.sessionId}`);
await Promise.all(closing.map((close) => close()));
