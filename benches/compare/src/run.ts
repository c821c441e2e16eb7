/**
 * Runs one repetition of one row for one contender: a new data folder, server and driver each time.
 *
 * Owns: the order of things, and which figures come of a row. Never: compares contenders.
 *
 * Invariants:
 * - R1 one server and one driver run at a time (idle servers side by side); everything else of ours waits.
 * - R2 what lies on disk is counted beyond what lay there before the first session, for each byte that steps returned,
 *   those of the warm-up included; "at rest" is after the server has stopped in order, "peak" is the most that was seen.
 */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Contender, Server } from "./contender/contender.js";
import { Driver } from "./driver-process.js";
import { type Done, type Job, sessionsOf } from "./job.js";
import { diskBytes } from "./measure/disk.js";
import { median, percentile } from "./measure/figures.js";
import { cpuSeconds, residentBytes } from "./measure/proc.js";
import { Sampler, type Taken } from "./measure/sampler.js";
import { countSyncs } from "./measure/syncs.js";
import { jobsOf, type Row, warmUp } from "./rows.js";

/** Figures of one repetition; a row has those that make sense for it. */
export type Figure =
  | "steps"
  | "p50_ms"
  | "p90_ms"
  | "p99_ms"
  | "steps_per_s"
  | "server_cpu_ms_per_step"
  | "worker_cpu_ms_per_step"
  | "server_peak_mb"
  | "server_rss_mb"
  | "disk_rest_per_step"
  | "disk_peak_per_step"
  | "disk_rest_ratio"
  | "disk_peak_ratio"
  | "replay_ms"
  | "flatness"
  | "idle_cpu_ms_per_s"
  | "memory_capped"
  | `${string}_per_step`;
export type Figures = Partial<Record<Figure, number>>;

/** Time between the last job and the stop, in ms: what is done in the background is done then. */
const SETTLE_MS = 2_000;
/** Time after a start before anything is measured, in ms. */
const START_MS = 500;
const MB = 1_024 * 1_024;
/** Share of a flat run at either end that is compared. */
const END_SHARE = 0.1;

/** Where a repetition runs. */
export interface Place {
  /** Made anew, deleted at the end. */
  folder: string;
  /** Keeps logs and profiles. */
  keep: boolean;
}

/** Runs one repetition. @throws Error saying what the contender could not do */
export async function measure(contender: Contender, row: Row, { folder, keep }: Place): Promise<Figures> {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  const { memoryMax } = row;
  const takeOver = row.way === "replay";
  const server = await contender.start({
    folder,
    takeOver,
    ...(memoryMax === undefined ? {} : { memoryMax }),
  });
  try {
    await delay(START_MS);
    const figures = await new Repetition(contender, row, server).run();
    return memoryMax === undefined ? figures : { ...figures, memory_capped: server.process.capped ? 1 : 0 };
  } catch (error) {
    if (server.process.ended)
      throw new Error(`the server has ended:\n${server.process.tail()}`, {
        cause: error,
      });
    throw error;
  } finally {
    await server.process.stop();
    if (!keep) rmSync(folder, { recursive: true, force: true });
  }
}

class Repetition {
  constructor(
    private readonly contender: Contender,
    private readonly row: Row,
    private readonly server: Server,
  ) {}

  run(): Promise<Figures> {
    switch (this.row.way) {
      case "job":
      case "load":
        return this.jobs();
      case "replay":
        return this.replay();
      case "idle":
        return this.idle();
      case "syncs":
        return this.syncs();
    }
  }

  private async jobs(): Promise<Figures> {
    const driver = await Driver.start(this.contender.name, this.server);
    const before = diskBytes(this.server.dataFolder);
    const warm = this.row.cold ? undefined : await driver.run(warmUp(this.contender.name));
    const sampler = new Sampler(this.server.process.pid, this.server.dataFolder);
    const done: Done[] = [];
    try {
      for (const job of this.wanted) done.push(await driver.run(job));
    } finally {
      await driver.end();
    }
    await delay(SETTLE_MS);
    const taken = sampler.end();
    await this.server.process.stop();
    const rest = diskBytes(this.server.dataFolder) - before;
    const disk = this.disk(done, warm, {
      rest,
      peak: taken.diskPeakBytes - before,
    });
    return { ...this.times(done), ...this.resources(done, taken), ...disk };
  }

  private async replay(): Promise<Figures> {
    const replays: Figures = {};
    for (const job of this.wanted) {
      const [session] = sessionsOf(job);
      if (session === undefined) continue;
      const first = await Driver.start(this.contender.name, this.server);
      await first.die(job);
      const second = await Driver.start(this.contender.name, this.server, session.id);
      replays.replay_ms = await second.resume(session);
      await second.end();
    }
    return replays;
  }

  private async idle(): Promise<Figures> {
    const { pid } = this.server.process;
    const before = cpuSeconds(pid);
    const ms = this.row.idleMs ?? 0;
    await delay(ms);
    const cpuMs = (cpuSeconds(pid) - before) * 1_000;
    return {
      idle_cpu_ms_per_s: cpuMs / (ms / 1_000),
      server_rss_mb: residentBytes(pid) / MB,
    };
  }

  private async syncs(): Promise<Figures> {
    const [job] = this.wanted;
    if (job === undefined) return {};
    const driver = await Driver.start(this.contender.name, this.server);
    await driver.run(warmUp(this.contender.name));
    const counted = await countSyncs(this.server.process.pid, () => driver.run(job));
    await driver.end();
    const figures: Figures = {};
    for (const [call, times] of Object.entries(counted ?? {})) figures[`${call}_per_step`] = times / stepsOf(job);
    return figures;
  }

  private get wanted(): readonly Job[] {
    return jobsOf(this.row, this.contender.name);
  }

  private times(done: readonly Done[]): Figures {
    // Of a load the jobs differ: only their sum means something.
    if (done.length !== 1) return {};
    const [{ gapsMs, wallMs } = { gapsMs: new Float64Array(), wallMs: 0 }] = done;
    const figures: Figures = {
      p50_ms: percentile(gapsMs, 0.5),
      p90_ms: percentile(gapsMs, 0.9),
      p99_ms: percentile(gapsMs, 0.99),
      steps_per_s: this.steps / (wallMs / 1_000),
    };
    if (this.row.id.startsWith("flat")) figures.flatness = flatness(gapsMs);
    return figures;
  }

  private resources(done: readonly Done[], taken: Taken): Figures {
    const workerMs = done.reduce((sum, { cpuMs }) => sum + cpuMs, 0);
    return {
      steps: this.steps,
      server_cpu_ms_per_step: (taken.cpuSeconds * 1_000) / this.steps,
      worker_cpu_ms_per_step: workerMs / this.steps,
      server_peak_mb: taken.peakBytes / MB,
      server_rss_mb: taken.residentBytes / MB,
    };
  }

  private disk(done: readonly Done[], warm: Done | undefined, bytes: { rest: number; peak: number }): Figures {
    const payload = done.reduce((sum, { payloadBytes }) => sum + payloadBytes, 0);
    const [rest, peak] = [bytes.rest, bytes.peak].map((taken) => taken / (payload + (warm?.payloadBytes ?? 0)));
    const perStep = payload / this.steps;
    return {
      disk_rest_ratio: rest ?? 0,
      disk_peak_ratio: peak ?? 0,
      disk_rest_per_step: (rest ?? 0) * perStep,
      disk_peak_per_step: (peak ?? 0) * perStep,
    };
  }

  private get steps(): number {
    return this.wanted.reduce((sum, job) => sum + stepsOf(job), 0);
  }
}

function stepsOf(job: Job): number {
  return job.sessions * job.steps * (job.kind === "conversation" ? 2 : 1);
}

/** Median of the last tenth of the steps over the median of the first. */
function flatness(gapsMs: Float64Array): number {
  const part = Math.max(1, Math.floor(gapsMs.length * END_SHARE));
  return median([...gapsMs.subarray(-part)]) / median([...gapsMs.subarray(0, part)]);
}

/** A folder of a repetition. */
export function folderOf(root: string, row: Row, contender: Contender, repetition: number): string {
  return join(root, `${row.id}-${contender.name}-${repetition}`);
}
