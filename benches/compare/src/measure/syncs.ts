/**
 * Counts a server's syncs from its system calls, in a run of its own (tracing slows the server down).
 *
 * Owns: strace. A machine without it, or one that forbids tracing, counts nothing, and that is said.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { tree } from "./proc.js";

/** System calls that make written bytes durable. */
const CALLS = ["fsync", "fdatasync", "sync_file_range", "msync", "sync", "syncfs"] as const;
/** How long strace gets to attach to every thread, in ms. */
const ATTACH_MS = 1_000;

/** How often each call was made; calls that were not made are left out. */
export type Syncs = Partial<Record<(typeof CALLS)[number], number>>;

/** Counts while `job` runs. Undefined: it cannot be counted here. */
export async function countSyncs(pid: number, job: () => Promise<unknown>): Promise<Syncs | undefined> {
  if (spawnSync("strace", ["-V"]).status !== 0) return undefined;
  const folder = mkdtempSync(join(tmpdir(), "cellaflow-strace-"));
  const file = join(folder, "counts");
  const processes = tree(pid).flatMap((one) => ["-p", String(one)]);
  const tracer = spawn("strace", ["-c", "-f", "-o", file, "-e", `trace=${CALLS.join(",")}`, ...processes], {
    stdio: "ignore",
  });
  try {
    await delay(ATTACH_MS);
    if (tracer.exitCode !== null) return undefined;
    await job();
    await stop(tracer);
    return parse(readFileSync(file, "utf8"));
  } finally {
    await stop(tracer);
    rmSync(folder, { recursive: true, force: true });
  }
}

async function stop(tracer: ChildProcess): Promise<void> {
  if (tracer.exitCode !== null || tracer.signalCode !== null) return;
  const ended = once(tracer, "exit");
  tracer.kill("SIGINT");
  await ended;
}

/** Reads strace's table: the fourth column says how many calls, the last one which. */
export function parse(table: string): Syncs {
  const syncs: Syncs = {};
  for (const line of table.split("\n")) {
    const fields = line.trim().split(/\s+/);
    const call = CALLS.find((name) => name === fields.at(-1));
    if (call !== undefined) syncs[call] = Number(fields[3]);
  }
  return syncs;
}
