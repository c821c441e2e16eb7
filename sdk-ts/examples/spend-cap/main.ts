/**
 * Runs the campaign with at most so much money, or goes on with it and more money:
 *
 *     node dist/examples/spend-cap/main.js [USD] [SLOGANS] [NAME]
 *     node dist/examples/spend-cap/main.js 0.005        about a third of the slogans; the others are paused
 *     node dist/examples/spend-cap/main.js 0.02         the rest
 *
 * `OPENAI_BASE_URL` names a model and `SPEND_MODEL` which; default: a scripted one of this process.
 */
import { setTimeout as delay } from "node:timers/promises";
import { createClient, createWorker } from "@cellaflow/sdk";
import { campaign, slogan, spendCap } from "./workflow.js";

const LOOK_MS = 100;
const QUIET_LOOKS = 10;

const [usd = "0.005", slogans = "64", name = "bicycles"] = process.argv.slice(2);
let close = async (): Promise<void> => {};
if (!process.env.OPENAI_BASE_URL) {
  const [{ startScriptedLlm }, { default: script }] = await Promise.all([
    import("@cellaflow/sdk/testing"),
    import("./script.js"),
  ]);
  const model = await startScriptedLlm({ script });
  Object.assign(process.env, { OPENAI_BASE_URL: model.baseUrl, OPENAI_API_KEY: "scripted" });
  close = () => model.close();
}
const model = process.env.SPEND_MODEL ?? "scripted-1";
const client = createClient();
const stop = new AbortController();
const worker = createWorker({ workflows: spendCap }).run({ signal: stop.signal });
const budget = { usd: Number(usd) };
const labels = { campaign: name };
const input = { slogans: Number(slogans), model };
const started = await client.start(campaign, input, { key: name, budget, labels });
const { sessionId } = started;

/** How many of the children are in each state. */
async function children(): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for await (const { status } of client.list({ workflow: slogan.name, labels }))
    counts[status] = (counts[status] ?? 0) + 1;
  return counts;
}

const owned = async () => (await client.budget(sessionId)).find((one) => one.sessionId === sessionId);
if (((await owned())?.limits.usd ?? 0) < budget.usd) await client.raiseBudget(sessionId, budget);
for (let quiet = 0, before = 0; ; await delay(LOOK_MS)) {
  const ended = await started.result({ waitMs: 0 });
  const { completed = 0, paused = 0 } = await children();
  quiet = completed === before && completed + paused === Number(slogans) ? quiet + 1 : 0;
  before = completed;
  if (ended.status === "completed") {
    console.log(`${ended.output.slogans.length} slogans; the last one: ${ended.output.slogans.at(-1)}`);
    break;
  }
  if (ended.status !== "waiting" && ended.status !== "runningElsewhere") {
    console.log(ended);
    break;
  }
  // Those that were paused are resumed a moment after a raise.
  if (paused > 0 && quiet > QUIET_LOOKS) {
    console.log(`${completed} slogans are there, ${paused} wait for money: start this again with more, or`);
    console.log(`  cellaflow sessions budget raise ${sessionId} --usd ${4 * budget.usd}`);
    break;
  }
}
const { spent, reserved, limits } = (await owned()) ?? {};
console.log(`spent $${spent?.usd} and reserved $${reserved?.usd} of $${limits?.usd}`);
stop.abort();
await worker;
await close();
