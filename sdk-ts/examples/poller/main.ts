/**
 * Runs the poller in this process: node dist/examples/poller/main.js [FEED] [ROUNDS]
 *
 * Without ROUNDS it goes on for ever; `cellaflow sessions cancel` ends it. Start it again with the same feed: it goes on
 * in the round where it was. `OPENAI_BASE_URL` names a model; default: a scripted one of this process.
 */
import { createClient } from "@cellaflow/sdk";
import { poller } from "./workflow.js";

const [feed = "harbour", rounds = "0"] = process.argv.slice(2);
let close = async (): Promise<void> => {};
if (!process.env.OPENAI_BASE_URL) {
  const { startScriptedLlm } = await import("@cellaflow/sdk/testing");
  const model = await startScriptedLlm();
  Object.assign(process.env, { OPENAI_BASE_URL: model.baseUrl, OPENAI_API_KEY: "scripted" });
  close = () => model.close();
}
const client = createClient({
  observer: { stepDelivered: ({ sessionId, stepKey, replayed }) => replayed || console.log(`${sessionId} ${stepKey}`) },
});
const input = { feed, model: process.env.POLLER_MODEL ?? "scripted-1", pauseMs: 2_000, rounds: Number(rounds) };
const result = await client.run(poller, input, { key: feed, whileWaiting: "follow" });
console.log(result.status === "completed" ? result.output : result);
await close();
