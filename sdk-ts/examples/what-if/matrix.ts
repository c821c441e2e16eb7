/** The purchasing agent in the kill matrix: it is forked when it has ordered, and the fork is killed as well. */
import type { MatrixExample, MatrixRun, SeenSession } from "#sdk/matrix/example.js";
import { purchasing } from "./workflow.js";

const example: MatrixExample<{ product: string; model: string; review?: boolean | undefined }> = {
  name: "what-if",
  workflows: [purchasing],
  workflow: purchasing,
  input: () => ({ product: "pumps", model: "scripted-1", review: true }),
  script: new URL("./script.js", import.meta.url),
  async outside({ info }: SeenSession, { client, key, sessionId }: MatrixRun) {
    if (info.status !== "waiting") return undefined;
    const reviewed = () => client.signal(info.sessionId, "reviewed", true, { id: "reviewed" });
    if (info.sessionId !== sessionId) return void (await reviewed());
    const edits = [{ step: "stock#1", output: { onHand: 10, soldPerDay: 2 } }];
    // The same key and edits again are the same fork.
    const fork = await client.fork(sessionId, { edits, key: `${key} what if` });
    await reviewed();
    return [fork.sessionId];
  },
};

export default example;
