/** The agent with failing surroundings in the kill matrix; a person resumes it whenever its attempts are used up. */
import type { MatrixExample, MatrixRun, SeenSession, UnknownEffect } from "#sdk/matrix/example.js";
import { flakyProvider } from "./workflow.js";

async function someoneLooks({ info }: SeenSession, { client }: MatrixRun): Promise<undefined> {
  if (info.status === "paused" && info.pauseReason === "retries_exhausted") await client.retry(info.sessionId);
}

async function charged(
  _effect: UnknownEffect,
  { world, key }: MatrixRun,
): Promise<{ applied: unknown } | "notApplied"> {
  const receipt = `charge ${key}`;
  return (await world.charges(receipt)) > 0 ? { applied: receipt } : "notApplied";
}

export default {
  name: "flaky-provider",
  workflows: [flakyProvider],
  workflow: flakyProvider,
  input: (_world, key) => ({ order: key }),
  outside: someoneLooks,
  truth: charged,
} satisfies MatrixExample<{ order: string }>;
