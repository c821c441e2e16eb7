/** The support desk in the kill matrix: the customer speaks whenever the desk listens. */
import type { MatrixExample, MatrixRun, SeenSession } from "#sdk/matrix/example.js";
import { supportDesk } from "./workflow.js";

const SAID = [
  { kind: "message", text: "My chain squeaks." },
  { kind: "message", text: "When may I come?" },
  { kind: "goodbye" },
] as const;

const input = { customer: "Ann", model: "scripted-1", idleMs: 3_600_000 };

export default {
  name: "support-desk",
  workflows: [supportDesk],
  workflow: supportDesk,
  input: () => input,
  script: new URL("./script.js", import.meta.url),
  async outside({ info, events }: SeenSession, { client }: MatrixRun) {
    const turn = events.filter(({ kind }) => kind === "signalAwaited").length;
    const said = SAID[turn - 1];
    // The id makes it one signal, however often it is sent.
    if (said !== undefined) await client.signal(info.sessionId, "said", said, { id: `turn ${turn}` });
    return undefined;
  },
} satisfies MatrixExample<typeof input>;
