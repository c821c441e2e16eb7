/**
 * A test server's own account of what reached it: in memory and, when asked, in an append-only JSONL file.
 *
 * Invariant R1: an entry is in the file (in the kernel's hands, so it survives kill -9) before `append` returns.
 */
import { closeSync, mkdirSync, openSync, writeSync } from "node:fs";
import { dirname } from "node:path";

/** Entries of one kind, in the order they were made. */
export class Jsonl<Entry extends object> {
  private readonly list: Entry[] = [];
  private fd: number | undefined;

  /** @param file where entries are appended, one JSON object a line; absent: memory only */
  constructor(file?: string) {
    if (file !== undefined) {
      mkdirSync(dirname(file), { recursive: true });
      this.fd = openSync(file, "a");
    }
  }

  /** Everything appended so far. */
  get entries(): readonly Entry[] {
    return this.list;
  }

  append(entry: Entry): void {
    if (this.fd !== undefined) writeSync(this.fd, `${JSON.stringify(entry)}\n`);
    this.list.push(entry);
  }

  close(): void {
    if (this.fd !== undefined) closeSync(this.fd);
    this.fd = undefined;
  }
}
