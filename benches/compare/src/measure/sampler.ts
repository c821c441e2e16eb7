/**
 * Watches a server while a job runs: peaks of memory and disk, CPU.
 *
 * Owns: when to look. Disk is looked at every `DISK_MS`; memory of a single process is kept by the kernel, of several it
 * is looked at every `MEMORY_MS`. It runs in the orchestrator's process, which otherwise waits.
 */
import { diskBytes } from "./disk.js";
import { cpuSeconds, forgetPeak, peakBytes, residentBytes, tree } from "./proc.js";

const DISK_MS = 250;
const MEMORY_MS = 500;

/** What a server took while it was watched. */
export interface Taken {
  cpuSeconds: number;
  peakBytes: number;
  diskPeakBytes: number;
  /** At the end. */
  residentBytes: number;
  diskBytes: number;
}

/** Watches from its creation on until `end`. */
export class Sampler {
  private readonly cpuBefore: number;
  private readonly alone: boolean;
  private diskPeak = 0;
  private memoryPeak = 0;
  private readonly timers: NodeJS.Timeout[];

  constructor(
    private readonly pid: number,
    private readonly folder: string,
  ) {
    this.alone = tree(pid).length === 1;
    forgetPeak(pid);
    this.cpuBefore = cpuSeconds(pid);
    this.timers = [setInterval(() => this.lookAtDisk(), DISK_MS)];
    if (!this.alone) this.timers.push(setInterval(() => this.lookAtMemory(), MEMORY_MS));
  }

  end(): Taken {
    for (const timer of this.timers) clearInterval(timer);
    const cpu = cpuSeconds(this.pid) - this.cpuBefore;
    this.lookAtDisk();
    this.lookAtMemory();
    return {
      cpuSeconds: cpu,
      peakBytes: this.alone ? peakBytes(this.pid) : this.memoryPeak,
      diskPeakBytes: this.diskPeak,
      residentBytes: residentBytes(this.pid),
      diskBytes: diskBytes(this.folder),
    };
  }

  private lookAtDisk(): void {
    this.diskPeak = Math.max(this.diskPeak, diskBytes(this.folder));
  }

  private lookAtMemory(): void {
    this.memoryPeak = Math.max(this.memoryPeak, residentBytes(this.pid));
  }
}
