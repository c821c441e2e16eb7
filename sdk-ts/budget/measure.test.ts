/**
 * A sample of `make budget` on a real engine: children that spend one budget in parallel never reserve more than it holds,
 * nor ask a model for more, though engine and worker are killed meanwhile (graph/budget.rs, B1).
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Processes } from "#sdk/harness/processes.js";
import { measure } from "./measure.js";

const program = process.env.CELLAFLOW_BIN ?? "";
const CHILDREN = 16;

test("a budget holds while its children and the engine are killed", {
  skip: program === "" && "CELLAFLOW_BIN names no engine",
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), "cellaflow-budget-"));
  const processes = new Processes();
  try {
    const measured = await measure({ children: CHILDREN, kills: true, program, folder }, processes);
    assert.deepEqual([measured.engineKills, measured.workerKills], [2, 2]);
    assert.equal(measured.completed, CHILDREN);
    assert.equal(measured.overshootReservations, 0);
    assert.equal(measured.overshootRequests, 0);
    assert.equal(measured.unreservedRequests, 0);
    // Calls of killed workers were made again, and are counted at their worst case.
    assert.ok(measured.requests > CHILDREN, String(measured.requests));
    assert.equal(measured.account.spentNanos, measured.spentNanos);
    assert.ok(measured.chargedNanos <= measured.spentNanos);
    assert.ok(measured.looks > 0);
  } finally {
    await processes.end();
    rmSync(folder, { recursive: true, force: true });
  }
});
