/** The campaign in the kill matrix: money for one slogan of three at first; somebody raises the budget when it is used up. */
import type { MatrixExample, MatrixRun, SeenSession } from "#sdk/matrix/example.js";
import { campaign, spendCap } from "./workflow.js";

const input = { slogans: 3, model: "scripted-1" };
/** A call reserves about 0.00022 and uses a little less. */
const FIRST_USD = 0.0003;
/** Enough, also if some calls are lost with their workers and counted at their worst case. */
const THEN_USD = 0.01;

export default {
  name: "spend-cap",
  workflows: spendCap,
  workflow: campaign,
  input: () => input,
  start: { budget: { usd: FIRST_USD } },
  script: new URL("./script.js", import.meta.url),
  async outside({ info }: SeenSession, { client, sessionId }: MatrixRun) {
    if (info.status !== "paused" || info.pauseReason !== "budget") return undefined;
    const [budget] = await client.budget(sessionId);
    if (budget?.limits.usd !== THEN_USD) await client.raiseBudget(sessionId, { usd: THEN_USD });
    return undefined;
  },
} satisfies MatrixExample<typeof input>;
