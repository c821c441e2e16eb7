/**
 * Resident memory of a process, as the kernel counts it: sampled, and the kernel's own high-water mark.
 */
import { readFileSync } from "node:fs";

/** How often it is looked at, in ms. */
export const SAMPLE_MS = 100;

/** What /proc says about a process's memory, in MiB. */
export interface Memory {
  now: number;
  highest: number;
}

/** Reads the text of /proc/PID/status. */
export function parseStatus(text: string): Memory {
  const kib = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(text)?.[1] ?? 0);
  return { now: kib("VmRSS") / 1_024, highest: kib("VmHWM") / 1_024 };
}

/** The memory of one engine through its restarts. */
export class Rss {
  /** Largest resident size seen, in MiB; 0 where there is no /proc. */
  max = 0;
  private pid = 0;
  private timer: NodeJS.Timeout | undefined;

  /** Looks at this process from now on. */
  watch(pid: number): void {
    this.pid = pid;
    this.timer ??= setInterval(() => this.sample(), SAMPLE_MS).unref();
  }

  /** Resident size now, in MiB. */
  sample(): number {
    let text: string;
    try {
      text = readFileSync(`/proc/${this.pid}/status`, "utf8");
    } catch {
      return 0;
    }
    const memory = parseStatus(text);
    this.max = Math.max(this.max, memory.now, memory.highest);
    return memory.now;
  }

  stop(): void {
    clearInterval(this.timer);
  }
}
