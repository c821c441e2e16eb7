/** The chat in the kill matrix: two messages and a goodbye, sent whenever it waits. */
import type { MatrixExample } from "#sdk/matrix/example.js";
import { chat } from "./workflow.js";

const SAID = ["hello", "and again", "/bye"];

export default {
  name: "chat-serverless",
  workflows: [chat],
  workflow: chat,
  input: () => ({ model: "scripted-1" }),
  script: new URL("./script.js", import.meta.url),
  async outside({ info, events }, { client }) {
    if (info.status !== "waiting") return undefined;
    const answered = events.filter(({ kind }) => kind === "zoneCommitted").length;
    const text = SAID[answered];
    if (text !== undefined) await client.signal(info.sessionId, "message", text, { id: `message-${answered}` });
    return undefined;
  },
} satisfies MatrixExample<{ model: string }>;
