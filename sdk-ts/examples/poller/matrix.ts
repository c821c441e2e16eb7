/** The poller in the kill matrix: three sessions, one after the other, under one key. */
import type { MatrixExample } from "#sdk/matrix/example.js";
import { type PollerInput, poller } from "./workflow.js";

export default {
  name: "poller",
  workflows: [poller],
  workflow: poller,
  input: () => ({ feed: "harbour", model: "scripted-1", pauseMs: 50, rounds: 3 }),
} satisfies MatrixExample<PollerInput>;
