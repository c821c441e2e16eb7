/** The matrix finds what it is for: examples with one mistake each, on a real engine. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { describe, it } from "node:test";

const skip = process.env.CELLAFLOW_BIN ? false : "CELLAFLOW_BIN names no engine";

interface Counts {
  points: number;
  runs: number;
  lost_acked: number;
  duplicate_effects: number;
  redundant_llm_requests: number;
  unknown_reported: number;
  stuck: number;
}

/** Runs the matrix over one mutant; returns its exit code, its counts and what it said on standard error. */
async function matrixOf(name: string, ...more: string[]): Promise<{ code: number; counts: Counts; said: string }> {
  const args = [join(import.meta.dirname, "main.js"), "--json", "--jobs", "2", "--timeout-s", "8"];
  const where = ["--examples", join(import.meta.dirname, "mutants"), "--example", name];
  const child = spawn(process.execPath, [...args, ...where, ...more], { stdio: ["ignore", "pipe", "pipe"] });
  let [out, said] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  const code = await new Promise<number>((resolve) => child.once("close", resolve));
  const last = out.trimEnd().split("\n").at(-1) ?? "";
  assert.match(
    last,
    /^\{"kill_matrix":\{"points":\d+,"runs":\d+,"lost_acked":\d+,"duplicate_effects":\d+,"redundant_llm_requests":\d+,"unknown_reported":\d+,"stuck":\d+\}\}$/,
    said,
  );
  return { code, counts: (JSON.parse(last) as { kill_matrix: Counts }).kill_matrix, said };
}

describe("the kill matrix finds", { skip, concurrency: 1 }, () => {
  it("an effect that is made twice because its step is not guarded", async () => {
    const { code, counts, said } = await matrixOf("charges-again", "--points", "in the middle", "--hit", "worker");
    assert.equal(code, 1);
    assert.equal(counts.duplicate_effects, 1, said);
    assert.match(said, /an effect was made twice: charge invoice of kill-matrix-\d+ again/);
    assert.equal(counts.stuck, 0, said);
  });

  it("a model that is asked again past the ledger", async () => {
    const { code, counts, said } = await matrixOf("asks-again", "--points", "note#1", "--hit", "worker");
    assert.equal(code, 1);
    assert.ok(counts.redundant_llm_requests > 0, said);
  });

  it("a session that never ends once its worker is another one", async () => {
    const { code, counts, said } = await matrixOf("hangs", "--points", "begin#1", "--hit", "worker");
    assert.equal(code, 1);
    assert.equal(counts.stuck, 1, said);
  });

  it("an end that differs because something was kept beside the ledger", async () => {
    const { code, counts, said } = await matrixOf("forgets", "--points", "find#1", "--hit", "worker");
    assert.equal(code, 1);
    assert.match(said, /forgets: worker at .*find#1(.|\n)*expected:.*7(.|\n)*found:.*0/);
    assert.equal(counts.stuck, 0, said);
  });
});
