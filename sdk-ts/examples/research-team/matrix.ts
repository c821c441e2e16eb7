/** The team in the kill matrix: four workflows, five children, one of which is cancelled at the end. */
import type { MatrixExample } from "#sdk/matrix/example.js";
import { researchTeam, team } from "./workflow.js";

export default {
  name: "research-team",
  workflows: team,
  workflow: researchTeam,
  input: () => ({ topics: ["tides", "unheard-of gadgets"], model: "scripted-1" }),
} satisfies MatrixExample<{ topics: string[]; model: string }>;
