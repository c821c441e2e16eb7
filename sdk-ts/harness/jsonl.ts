/** Reads the JSONL files that servers and agents write while they may be killed. */
import { readFileSync } from "node:fs";

/** The objects of a JSONL text whose last line may be torn. */
export function jsonLines(text: string): unknown[] {
  const whole = text.slice(0, text.lastIndexOf("\n") + 1);
  return whole.split("\n").flatMap((line) => (line === "" ? [] : [JSON.parse(line) as unknown]));
}

/** The objects of a JSONL file; none if there is no such file: a process that was killed early has written nothing. */
export function linesOf(file: string): unknown[] {
  try {
    return jsonLines(readFileSync(file, "utf8"));
  } catch {
    return [];
  }
}
