/**
 * What the agent reads: a made-up code base whose files, search hits and check logs have the sizes that real ones have.
 * Everything is a function of its name, so every run reads the same.
 */

const NOUNS = ["lease", "epoch", "ledger", "segment", "watermark", "frame", "session", "snapshot", "cursor", "quota"];
const VERBS = ["open", "seal", "fold", "replay", "fence", "renew", "commit", "drain", "merge", "trim"];
const FILES = 40;

/** Random numbers of a name (mulberry32 over FNV-1a). */
function dice(name: string): (max: number) => number {
  let state = 0x811c9dc5;
  for (const char of name) state = Math.imul(state ^ (char.codePointAt(0) ?? 0), 0x01000193);
  return (max) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % max;
  };
}

function pick<T>(list: readonly T[], at: number): T {
  return list[at % list.length] as T;
}

/** Path of file `n`. */
export function pathOf(n: number): string {
  const at = n % FILES;
  return `src/${pick(NOUNS, at)}/${pick(VERBS, Math.floor(at / NOUNS.length) + at)}_${at}.ts`;
}

/** Returns a source file, 60 to 360 lines of it. */
export function sourceOf(path: string): string {
  const roll = dice(path);
  const lines = [`// ${path}`, ""];
  for (let n = 8 + roll(44); n > 0; n--) {
    const [noun, verb, other] = [pick(NOUNS, roll(99)), pick(VERBS, roll(99)), pick(NOUNS, roll(99))];
    const limit = roll(9_000);
    lines.push(
      `/** Tries to ${verb} the ${noun} before its ${other} is over. */`,
      `export async function ${verb}${noun}${n}(${noun}: ${noun}Handle, ${other}Ms = ${limit}): Promise<boolean> {`,
      `  const until = clock.now() + ${other}Ms;`,
      `  while (clock.now() < until && !(await ${noun}.${verb}(${roll(64)}))) await pause(${roll(500)});`,
      `  return ${noun}.state === "${verb}ed";`,
      "}",
      "",
    );
  }
  return lines.join("\n");
}

/** Returns the lines of a source that a word is in, as a search tool shows them. */
export function search(word: string): string {
  const hits: string[] = [];
  for (let n = 0; n < FILES && hits.length < 40; n++) {
    const path = pathOf(n);
    for (const [at, line] of sourceOf(path).split("\n").entries()) {
      if (line.includes(word) && line.startsWith("export") && hits.length < 40) hits.push(`${path}:${at + 1}: ${line}`);
    }
  }
  return hits.length === 0 ? `nothing has "${word}" in it` : hits.join("\n");
}

/** Returns the log of a check: it fails in its first rounds. */
export function check(name: string, round: number): string {
  const roll = dice(`${name} ${round}`);
  const lines = [`> check ${name}, round ${round}`];
  for (let n = 0; n < 60; n++) lines.push(`ok ${n + 1} - ${pick(VERBS, n)} ${pick(NOUNS, roll(99))} (${roll(90)} ms)`);
  const failed = round < 3;
  if (failed) {
    lines.push(
      `not ok 61 - ${name} holds its ${pick(NOUNS, roll(99))}`,
      `  AssertionError: expected ${roll(99)} to equal ${roll(99)}`,
      `    at ${pathOf(roll(FILES))}:${roll(300)}:9`,
    );
  }
  lines.push(failed ? "1 failed, 60 passed" : "61 passed", `exit code ${failed ? 1 : 0}`);
  return lines.join("\n");
}
