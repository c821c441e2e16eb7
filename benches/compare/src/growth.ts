/**
 * How our own cost grows: with the sessions in a ledger, and with the steps in one session.
 *
 * Owns: which sizes are measured. One server per series of sessions, one per size of a session.
 */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { cellaflow } from "./contender/cellaflow.js";
import type { Server } from "./contender/contender.js";
import { Driver } from "./driver-process.js";
import { type Job, sessionsOf } from "./job.js";
import { diskBytes } from "./measure/disk.js";
import { rounded } from "./measure/figures.js";
import { residentBytes } from "./measure/proc.js";
import { warmUp } from "./rows.js";

/** A point of a curve. */
export interface Point {
  /** Sessions in the ledger, or steps in the session. */
  n: number;
  steps_per_s: number;
  /** Of a session of 100 steps among them, or of the session itself. */
  replay_ms: number;
  server_rss_mb: number;
  /** Bytes on disk for each byte that steps returned. */
  disk_ratio: number;
}

/** Both curves. */
export interface Growth {
  sessions: Point[];
  steps: Point[];
}

const KB = 1_024;
const MB = KB * KB;
/** Steps of each of many sessions. */
const SHORT = 5;
const RUN: Pick<Job, "kind" | "bytes" | "dieAfter"> = {
  kind: "steps",
  bytes: KB,
  dieAfter: 0,
};
/** Time that what is done in the background gets before memory and disk are looked at, in ms. */
const SETTLE_MS = 2_000;

/** Measures both curves at these sizes. */
export async function growth(root: string, sizes: readonly number[], say: (line: string) => void): Promise<Growth> {
  const sessions: Point[] = [];
  await onServer(join(root, "growth-sessions"), async (server) => {
    let there = 0;
    for (const n of sizes) {
      const point = { n, ...(await moreSessions(server, there, n)) };
      there = n;
      sessions.push(point);
      say(`growth sessions ${JSON.stringify(point)}`);
    }
  });
  const steps: Point[] = [];
  for (const n of sizes) {
    await onServer(join(root, `growth-steps-${n}`), async (server) => {
      const point = { n, ...(await longSession(server, n)) };
      steps.push(point);
      say(`growth steps ${JSON.stringify(point)}`);
    });
  }
  return { sessions, steps };
}

async function onServer(folder: string, run: (server: Server) => Promise<void>): Promise<void> {
  mkdirSync(folder);
  const server = await cellaflow.start({ folder, takeOver: true });
  try {
    await run(server);
  } finally {
    await server.process.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function moreSessions(server: Server, there: number, n: number): Promise<Omit<Point, "n">> {
  const driver = await Driver.start("cellaflow", server);
  if (there === 0) await driver.run(warmUp("cellaflow"));
  const job: Job = {
    ...RUN,
    name: `many-${n}`,
    sessions: n - there,
    atOnce: 64,
    steps: SHORT,
  };
  const { wallMs } = await driver.run(job);
  await driver.end();
  await delay(SETTLE_MS);
  const rest = {
    server_rss_mb: residentBytes(server.process.pid) / MB,
    disk: diskBytes(server.dataFolder),
  };
  const replay = await replayed(server, {
    ...RUN,
    name: `among-${n}`,
    sessions: 1,
    atOnce: 1,
    steps: 101,
    dieAfter: 100,
  });
  return {
    steps_per_s: rounded((job.sessions * SHORT) / (wallMs / 1_000)),
    replay_ms: rounded(replay),
    server_rss_mb: rounded(rest.server_rss_mb),
    disk_ratio: rounded(rest.disk / (n * SHORT * KB)),
  };
}

async function longSession(server: Server, n: number): Promise<Omit<Point, "n">> {
  const started = performance.now();
  const job: Job = {
    ...RUN,
    name: `long-${n}`,
    sessions: 1,
    atOnce: 1,
    steps: n + 1,
    dieAfter: n,
  };
  let recorded = 0;
  const replay = await replayed(server, job, () => {
    recorded = performance.now() - started;
  });
  await delay(SETTLE_MS);
  return {
    steps_per_s: rounded(n / (recorded / 1_000)),
    replay_ms: rounded(replay),
    server_rss_mb: rounded(residentBytes(server.process.pid) / MB),
    disk_ratio: rounded(diskBytes(server.dataFolder) / (n * KB)),
  };
}

async function replayed(server: Server, job: Job, died: () => void = () => {}): Promise<number> {
  const [session] = sessionsOf(job);
  if (session === undefined) return Number.NaN;
  const first = await Driver.start("cellaflow", server);
  await first.die(job);
  died();
  const second = await Driver.start("cellaflow", server, session.id);
  const ms = await second.resume(session);
  await second.end();
  return ms;
}
