/** The research agent with the real engine and the real compactor, everything killed on the way. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { skip } from "../process-kit.js";
import { compacted, PRICES, whole } from "./money.js";
import { research } from "./run.js";

const BUDGET = 8_000;
/** Long: what is asked here is whether it is compacted, not how soon on a busy machine. */
const WAIT_MS = 10_000;

describe("the research agent", { skip }, () => {
  it("keeps to its budget, pays no answer twice and knows at the end what it was asked", async () => {
    const said: string[] = [];
    const tell = (line: string): void => void said.push(line);
    const outcome = await research({ turns: 44, budget: BUDGET, waitMs: WAIT_MS, kills: 4, tell });
    const { result, calls, contexts, kills, redundant } = outcome;
    assert.ok(result.status === "completed", JSON.stringify(result));
    assert.equal(result.output.turns, 44);
    assert.match(result.output.report, /Signed: heron/, "the last prompt has the first message");
    assert.deepEqual(kills, { worker: 1, engine: 1, compactor: 1, "worker and engine": 1 }, said.join("\n"));
    assert.deepEqual(redundant, []);
    assert.equal(calls.length, 44);
    for (const { tokens } of contexts) assert.ok(tokens <= BUDGET, String(tokens));
    assert.ok(
      contexts.some(({ source }) => source === "ccs"),
      said.join("\n"),
    );
    assert.ok(
      calls.some(({ fault }) => fault),
      "something was read back",
    );
    assert.ok(compacted(calls, PRICES).inputTokens < whole(calls, PRICES).inputTokens / 2);
  });
});
