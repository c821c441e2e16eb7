/**
 * A worker for tests: `node worker-process-main.js MODULE` serves every workflow that the module exports.
 *
 * `CELLAFLOW_TEST_CRASH` says at which event it dies. It ends when its standard input does.
 */
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { watchEvents } from "../internal/crash-point.js";
import type { Workflow } from "../runtime/workflow.js";
import { createWorker } from "../worker/worker.js";
import { failToStart } from "./main.js";
import type { CrashPoint } from "./worker-process.js";

async function main([module = ""]: readonly string[]): Promise<void> {
  const url = module.startsWith("file:") ? module : pathToFileURL(resolve(module)).href;
  const exported = Object.values((await import(url)) as Record<string, unknown>).flat();
  const workflows = exported.filter(isWorkflow);
  if (workflows.length === 0) throw new Error(`${module} exports no workflow; export what workflow(…) returns`);
  const crash = process.env.CELLAFLOW_TEST_CRASH;
  if (crash) dieAt(JSON.parse(crash) as CrashPoint);
  const gone = new AbortController();
  process.stdin
    .on("close", () => gone.abort())
    .on("error", () => gone.abort())
    .resume();
  await createWorker({ workflows }).run({ handleSignals: true, signal: gone.signal, shutdownGraceMs: 5_000 });
}

function dieAt(point: CrashPoint): void {
  watchEvents((sessionId, seq) => {
    if (seq === point.seq && (point.sessionId ?? sessionId) === sessionId) process.kill(process.pid, "SIGKILL");
  });
}

function isWorkflow(value: unknown): value is Workflow {
  const { name, version, execute } = (value ?? {}) as Partial<Workflow>;
  return typeof name === "string" && typeof version === "string" && typeof execute === "function";
}

await main(process.argv.slice(2)).catch(failToStart);
process.exit();
