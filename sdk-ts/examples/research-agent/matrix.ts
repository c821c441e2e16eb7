/** The research agent in the kill matrix: a few turns under a budget that the last ones exceed, with a compactor and without. */
import type { MatrixExample } from "#sdk/matrix/example.js";
import { type ResearchInput, researchAgent } from "./workflow.js";

const input: ResearchInput = {
  question: "How are leases renewed? Sign it with the word heron.",
  model: "scripted-1",
  budget: 6_000,
  waitMs: 0,
};

const agent = {
  workflows: [researchAgent],
  workflow: researchAgent,
  script: new URL("./matrix-script.js", import.meta.url),
};

// What a prompt is made of differs between runs (how soon the compactor is): what is compared is what came of it.
export default [
  { ...agent, name: "research-agent", input: () => ({ ...input, waitMs: 5_000 }), compactor: true },
  { ...agent, name: "research-agent/alone", input: () => input },
] satisfies MatrixExample<ResearchInput>[];
