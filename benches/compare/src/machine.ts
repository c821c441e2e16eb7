/** What was measured on, for whoever reads the figures elsewhere. */

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";

/** A machine. */
export interface Machine {
  cpu: string;
  cores: number;
  memory_gb: number;
  kernel: string;
  node: string;
  file_system: string;
  /** Largest load average (one minute) seen at the start: above 0.5 something else was running. */
  load_before: number;
}

/** Describes this machine and the file system of a folder. */
export function machine(folder: string): Machine {
  const df = spawnSync("df", ["--output=fstype", folder], { encoding: "utf8" });
  return {
    cpu: cpus()[0]?.model ?? "unknown",
    cores: cpus().length,
    memory_gb: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.version,
    file_system: df.stdout?.split("\n")[1]?.trim() ?? "unknown",
    load_before: LOAD,
  };
}

const LOAD = Number(readFileSync("/proc/loadavg", "utf8").split(" ")[0]);
