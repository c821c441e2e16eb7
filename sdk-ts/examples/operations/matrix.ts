/** The catalogue in the kill matrix: somebody pauses it after its first page, resumes it, and retries the publisher. */
import type { MatrixExample, MatrixRun, SeenSession } from "#sdk/matrix/example.js";
import { catalogue } from "./workflow.js";

async function operate({ info, events }: SeenSession, { client }: MatrixRun): Promise<undefined> {
  const { sessionId, pauseReason } = info;
  const paused = events.some(({ kind }) => kind === "sessionPaused");
  if (pauseReason === "requested") await client.resume(sessionId);
  else if (pauseReason === "retries_exhausted") await client.retry(sessionId);
  else if (!paused && events.some(({ kind }) => kind === "stepCompleted")) await client.pause(sessionId);
}

export default {
  name: "operations",
  workflows: [catalogue],
  workflow: catalogue,
  input: () => ({ shop: "corner", pages: 2, everyMs: 40 }),
  outside: operate,
} satisfies MatrixExample<{ shop: string; pages?: number | undefined; everyMs?: number | undefined }>;
