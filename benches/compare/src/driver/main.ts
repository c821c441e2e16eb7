/**
 * A driver: one contender's worker and client in one process, that does jobs and measures itself.
 *
 * Owns: running sessions a few at a time, CPU of this process. Never: starts servers, judges figures.
 * `node main.js ADAPTER SERVER_JSON`; requests and answers go over the IPC channel.
 */

import { writeFileSync } from "node:fs";
import { Session as Inspector } from "node:inspector/promises";
import { performance } from "node:perf_hooks";
import { type Answer, type Job, type Request, type Session, sessionsOf } from "../job.js";
import type { Adapter, Open } from "./adapter.js";
import { resumed, take } from "./probe.js";

const inspector = new Inspector();

async function runJob(adapter: Adapter, job: Job): Promise<Answer> {
  take();
  const waiting = sessionsOf(job).reverse();
  const cpu = process.cpuUsage();
  const started = performance.now();
  const lane = async (): Promise<void> => {
    for (let session = waiting.pop(); session !== undefined; session = waiting.pop()) await adapter.run(session);
  };
  await Promise.all(Array.from({ length: Math.min(job.atOnce, job.sessions) }, lane));
  const wallMs = performance.now() - started;
  const { user, system } = process.cpuUsage(cpu);
  return { done: { wallMs, cpuMs: (user + system) / 1_000, ...take() } };
}

async function resume(adapter: Adapter, session: Session): Promise<Answer> {
  await adapter.resume?.(session);
  return { replayed: { replayMs: await replay } };
}

async function profile(on: boolean): Promise<Answer> {
  if (on) {
    inspector.connect();
    await inspector.post("Profiler.enable");
    await inspector.post("Profiler.setSamplingInterval", { interval: 200 });
    await inspector.post("Profiler.start");
  } else {
    const { profile: taken } = await inspector.post("Profiler.stop");
    writeFileSync("driver.cpuprofile", JSON.stringify(taken));
    inspector.disconnect();
  }
  return { ok: true };
}

async function answer(adapter: Adapter, request: Request): Promise<Answer> {
  switch (request.do) {
    case "run":
      return runJob(adapter, request.job);
    case "resume":
      return resume(adapter, request.session);
    case "profile":
      return profile(request.on);
    case "end":
      await adapter.close();
      return { ok: true };
  }
}

const [name = "", server = "{}", resuming = ""] = process.argv.slice(2);
const say = (said: Answer): void => void process.send?.(said);
// Before the worker opens: some runtimes take up what a dead process left as soon as they start.
const replay = resuming === "" ? Promise.resolve(0) : resumed(resuming);
const { open } = (await import(`./${name}.js`)) as { open: Open };
const adapter = await open(JSON.parse(server) as Record<string, string>);
process.on("message", (request: Request) => {
  answer(adapter, request)
    .catch(
      (error: unknown): Answer => ({
        failed: error instanceof Error ? (error.stack ?? String(error)) : String(error),
      }),
    )
    .then(say)
    .catch((error: unknown) => console.error(error))
    .finally(() => {
      if (request.do === "end") process.exit(0);
    });
});
// The parent has gone: nobody is left to measure for.
process.on("disconnect", () => process.exit(1));
say({ ready: true });
