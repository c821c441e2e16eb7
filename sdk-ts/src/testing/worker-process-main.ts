/**
 * A worker for tests: `node worker-process-main.js MODULE` serves every workflow that the module exports.
 *
 * `CELLAFLOW_TEST_HITS` says at which event it dies or stands still. It ends when its standard input does.
 */
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { watchEvents } from "../internal/crash-point.js";
import type { Workflow } from "../runtime/workflow.js";
import { createWorker } from "../worker/worker.js";
import { failToStart } from "./main.js";
import type { CrashPoint } from "./worker-process.js";

type Hits = Partial<Record<NodeJS.Signals, CrashPoint>>;

async function main([module = ""]: readonly string[]): Promise<void> {
  const url = module.startsWith("file:") ? module : pathToFileURL(resolve(module)).href;
  // One that is exported by itself and in a list is one.
  const exported = [...new Set(Object.values((await import(url)) as Record<string, unknown>).flat())];
  const workflows = exported.filter(isWorkflow);
  if (workflows.length === 0) throw new Error(`${module} exports no workflow; export what workflow(…) returns`);
  hitAt(JSON.parse(process.env.CELLAFLOW_TEST_HITS ?? "{}") as Hits);
  const gone = new AbortController();
  process.stdin
    .on("close", () => gone.abort())
    .on("error", () => gone.abort())
    .resume();
  await createWorker({ workflows }).run({ handleSignals: true, signal: gone.signal, shutdownGraceMs: 5_000 });
}

function hitAt(hits: Hits): void {
  const left = new Map(Object.entries(hits) as [NodeJS.Signals, CrashPoint][]);
  watchEvents((sessionId, seq) => {
    for (const [signal, point] of left) {
      if (seq !== point.seq || (point.sessionId ?? sessionId) !== sessionId) continue;
      left.delete(signal);
      process.kill(process.pid, signal);
    }
  });
}

function isWorkflow(value: unknown): value is Workflow {
  const { name, version, execute } = (value ?? {}) as Partial<Workflow>;
  return typeof name === "string" && typeof version === "string" && typeof execute === "function";
}

await main(process.argv.slice(2)).catch(failToStart);
process.exit();
