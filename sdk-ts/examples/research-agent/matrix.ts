/** The research agent in the kill matrix: a few turns under a budget that the last ones exceed. */
import type { MatrixExample } from "#sdk/matrix/example.js";
import { type ResearchInput, researchAgent } from "./workflow.js";

const input: ResearchInput = {
  question: "How are leases renewed? Sign it with the word heron.",
  model: "scripted-1",
  budget: 6_000,
  waitMs: 0,
};

export default {
  name: "research-agent",
  workflows: [researchAgent],
  workflow: researchAgent,
  input: () => input,
  script: new URL("./matrix-script.js", import.meta.url),
} satisfies MatrixExample<ResearchInput>;
