/** A small sample of `make flatness` on a real engine: kills happen, laps arrive, no answer is paid twice. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Processes } from "#sdk/harness/processes.js";
import { slopeOf } from "./figures.js";
import { measure } from "./measure.js";

const program = process.env.CELLAFLOW_BIN ?? "";

test("a sample of the measurement", { skip: program === "" && "CELLAFLOW_BIN names no engine" }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "cellaflow-flatness-"));
  const processes = new Processes();
  try {
    const measured = await measure({ turns: 20, kills: 2, continuations: 19, program, folder }, processes);
    assert.equal(measured.kills, 2);
    assert.equal(measured.redundantLlmRequests, 0);
    // What was under way when it was killed is missing, and what was replayed.
    assert.ok(measured.turns.length >= 16 && measured.turns.length <= 20, String(measured.turns.length));
    assert.deepEqual(
      measured.rounds.map(({ n }) => n),
      Array.from({ length: 20 }, (_, index) => index + 1),
    );
    assert.ok(slopeOf(measured.turns, 20).ratio > 0);
  } finally {
    await processes.end();
    rmSync(folder, { recursive: true, force: true });
  }
});
