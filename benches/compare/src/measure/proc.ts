/**
 * What processes take, from /proc: CPU and memory of a server and all its children.
 *
 * Owns: reading /proc. Never: starts or ends anything.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";

/** Clock ticks of /proc per second; fixed on Linux. */
const TICKS_PER_S = 100;
const KB = 1_024;

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // the process has ended meanwhile
  }
}

/** Fields of /proc/PID/stat after the command's name. */
function stat(pid: number): string[] {
  const line = read(`/proc/${pid}/stat`);
  return line.slice(line.lastIndexOf(")") + 2).split(" ");
}

/** A process and all its descendants. */
export function tree(root: number): number[] {
  const childrenOf = new Map<number, number[]>();
  for (const entry of readdirSync("/proc")) {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) continue;
    const parent = Number(stat(pid)[1]);
    childrenOf.set(parent, [...(childrenOf.get(parent) ?? []), pid]);
  }
  const found = [root];
  for (const pid of found) found.push(...(childrenOf.get(pid) ?? []));
  return found;
}

/** CPU seconds of a process tree; of processes that ended, if their parent is in it. */
export function cpuSeconds(root: number): number {
  let ticks = 0;
  for (const pid of tree(root)) {
    const fields = stat(pid);
    for (const field of fields.slice(11, 15)) ticks += Number(field);
  }
  return ticks / TICKS_PER_S;
}

/** Resident memory of a process tree in bytes; pages that several processes share count once (Pss). */
export function residentBytes(root: number): number {
  let bytes = 0;
  for (const pid of tree(root)) {
    const pss = /^Pss:\s+(\d+) kB/m.exec(read(`/proc/${pid}/smaps_rollup`));
    bytes += Number(pss?.[1] ?? 0) * KB;
  }
  return bytes;
}

/** Largest resident memory of one process since `forgetPeak`, in bytes; the kernel keeps it. */
export function peakBytes(pid: number): number {
  const peak = /^VmHWM:\s+(\d+) kB/m.exec(read(`/proc/${pid}/status`));
  return Number(peak?.[1] ?? 0) * KB;
}

/** Starts `peakBytes` over. */
export function forgetPeak(pid: number): void {
  try {
    writeFileSync(`/proc/${pid}/clear_refs`, "5");
  } catch {
    // Not permitted: the peak then includes the start.
  }
}
