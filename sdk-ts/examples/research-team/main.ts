/**
 * Runs the team, or goes on with a run: node dist/examples/research-team/main.js [TOPIC …]
 *
 * This process is a worker for all four workflows; start several, and the children spread over them.
 * Environment: `OPENAI_BASE_URL` and `OPENAI_API_KEY`, `RESEARCH_MODEL`; default: a scripted model of this process.
 */
import { createClient, createWorker } from "@cellaflow/sdk";
import { researchTeam, team } from "./workflow.js";

const given = process.argv.slice(2);
const topics = given.length > 0 ? given : ["lighthouses", "unheard-of gadgets", "tides"];
let close = async (): Promise<void> => {};
if (!process.env.OPENAI_BASE_URL) {
  const { startScriptedLlm } = await import("@cellaflow/sdk/testing");
  const model = await startScriptedLlm();
  Object.assign(process.env, { OPENAI_BASE_URL: model.baseUrl, OPENAI_API_KEY: "scripted" });
  close = () => model.close();
}
const model = process.env.RESEARCH_MODEL ?? "scripted-1";
const stop = new AbortController();
const worker = createWorker({ workflows: team }).run({ signal: stop.signal });
const started = await createClient().start(researchTeam, { topics, model }, { key: topics.join(", ") });
console.log(`session ${started.sessionId}`);
const result = await started.result();
console.log(result.status === "completed" ? result.output : result);
stop.abort();
await worker;
await close();
