/**
 * What the disk and RocksDB can do at best, and the engine's core beside it: measured by a Rust program with the
 * engine's own build flags.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";

const program = process.env.CELLAFLOW_BENCH_FLOOR ?? "";

/** What lies below every contender. */
export interface Floor {
  /** One KB written and synced, in ms. */
  sync_p50_ms: number;
  /** Raw RocksDB, one synced put of 1 KB at a time. */
  seq_1k_p50_ms: number;
  seq_1k_per_s: number;
  /** Synced batches of 64 puts of 1 KB, in puts per second. */
  batch_64_per_s: number;
  /** One synced put of 100 KB. */
  seq_100k_p50_ms: number;
  /** Reading 10,000 puts of 1 KB in order, in ms. */
  scan_10000_ms: number;
}

/** The engine's core (commands decided, frames synced; no network) beside raw RocksDB with the same puts. */
export interface Core {
  callers: number;
  core_per_s: number;
  raw_per_s: number;
  /** core_per_s / raw_per_s: the median over interleaved rounds. */
  ratio: number;
}

/** Measures the floor; nothing: the program was not built. */
export function floor(folder: string, mode: string, say: (line: string) => void): { floor?: Floor } {
  const floor = ask<Floor>(["floor"], folder, mode, say);
  return floor === undefined ? {} : { floor };
}

/** Measures the core beside raw RocksDB. */
export function core(folder: string, mode: string, say: (line: string) => void): { core?: Core[] } {
  const core = ask<Core[]>(["core"], folder, mode, say);
  return core === undefined ? {} : { core };
}

function ask<T>(args: readonly string[], root: string, mode: string, say: (line: string) => void): T | undefined {
  if (!existsSync(program)) {
    say(`${args[0]}: absent, there is no program at '${program}' (CELLAFLOW_BENCH_FLOOR)`);
    return undefined;
  }
  const folder = join(root, args[0] ?? "");
  mkdirSync(folder);
  const ran = spawnSync(program, [...args, "--folder", folder, "--mode", mode], { encoding: "utf8" });
  if (ran.status !== 0) throw new Error(`${program} ${args.join(" ")}: ${ran.stderr}`);
  say(`${args[0]} ${ran.stdout.trim()}`);
  return JSON.parse(ran.stdout) as T;
}
