import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Resolution } from "#sdk/gen/cellaflow/v1/event_pb.js";
import { audit, event } from "./events.fixture.js";
import { boundary, isProgress, places, plan, resumedAfterMs, samplePlan } from "./plan.js";

const boundaries = audit().map(boundary);

describe("where to kill", () => {
  it("is every event of the ledger, once for agent, engine and both", () => {
    const runs = plan(boundaries).filter((run) => run.place?.kind === "boundary");
    assert.equal(runs.length, 9 * 3);
    for (const target of ["agent", "engine", "both"]) {
      const seqs = runs.filter((run) => run.target === target).map((run) => run.place?.seq);
      assert.deepEqual(seqs, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }
  });

  it("is the middle of the stream, of the longest plain step and of the guarded one", () => {
    const middles = places(boundaries).filter((place) => place.kind !== "boundary");
    assert.deepEqual(
      middles.map(({ kind, seq, waitMs }) => ({ kind, seq, waitMs })),
      [
        // It takes 400 ms, and is slowed down in the run that is killed.
        { kind: "stream", seq: 5, waitMs: 400 },
        // It ran from 1,020 to 1,100; event 2 was at 1,000.
        { kind: "step", seq: 2, waitMs: 60 },
        { kind: "guarded", seq: 7, waitMs: 10 },
      ],
    );
  });

  it("names every run differently: the name is the session's key", () => {
    const names = plan(boundaries).map((run) => run.name);
    assert.equal(new Set(names).size, names.length);
  });

  it("has a sample with every kind of kill", () => {
    const sample = samplePlan(boundaries);
    assert.ok(sample.length <= 10);
    assert.equal(new Set(sample.map((run) => run.name)).size, sample.length);
    assert.deepEqual(new Set(sample.map((run) => run.target)), new Set(["agent", "engine", "both"]));
    const kinds = new Set(sample.map((run) => run.place?.kind));
    assert.deepEqual(kinds, new Set(["boundary", "stream", "step", "guarded"]));
  });

  it("survives a ledger without zones and guarded steps", () => {
    assert.deepEqual(
      places(boundaries.slice(0, 2)).map((place) => place.kind),
      ["boundary", "boundary"],
    );
  });
});

describe("when a run went on", () => {
  it("is not a lease, a rollback or what the engine noticed by itself", () => {
    const quiet = [
      event(5, 1, { case: "leaseGranted", value: { epoch: 2n, takeover: true } }),
      event(6, 1, { case: "zoneRolledBack", value: {} }),
      event(7, 1, { case: "guardUnknown", value: {} }),
    ];
    assert.deepEqual(quiet.map(isProgress), [false, false, false]);
    assert.ok(isProgress(event(8, 1, { case: "guardResolved", value: { resolution: Resolution.OUTPUT } })));
    assert.ok(isProgress(event(8, 1, { case: "stepCompleted", value: {} })));
  });

  it("counts from the kill to the beginning of the new step, or to its commit when only the engine was gone", () => {
    const step = event(9, 5_000, { case: "stepCompleted", value: { durationUs: 800_000n } });
    assert.equal(resumedAfterMs("agent", 3_000, step), 1_200);
    assert.equal(resumedAfterMs("both", 3_000, step), 1_200);
    assert.equal(resumedAfterMs("engine", 3_000, step), 2_000);
  });
});
