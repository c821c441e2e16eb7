/**
 * What a data folder takes on disk.
 *
 * Neither holes nor blocks reserved beyond a file's end count: what is reserved is given back, and it would hide what
 * is written. A file that is being deleted while we look counts nothing.
 */
import { lstatSync, readdirSync, statfsSync } from "node:fs";
import { join } from "node:path";

const BLOCK_BYTES = 512;
const TMPFS_MAGIC = 0x01021994;

/** Bytes written to a folder and all below it. */
export function diskBytes(folder: string): number {
  let bytes = 0;
  for (const entry of entries(folder)) {
    const path = join(folder, entry);
    try {
      const found = lstatSync(path);
      bytes += found.isDirectory() ? diskBytes(path) : Math.min(found.size, found.blocks * BLOCK_BYTES);
    } catch {
      // deleted meanwhile
    }
  }
  return bytes;
}

/** False for a file system in memory: a sync costs nothing there, so nothing measured on it means anything. */
export function isDisk(folder: string): boolean {
  return statfsSync(folder).type !== TMPFS_MAGIC;
}

function entries(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
