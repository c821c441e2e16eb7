import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { parseOptions } from "./options.js";
import { faults, type Measured, resultOf } from "./result.js";

const good: Measured = {
  runs: 3,
  kills: 2,
  completed: 3,
  bill: {
    requests: 10,
    redundant: 0,
    redundantCalls: [],
    interrupted: 1,
    repaid: 2,
    interruptedByEngineKills: 0,
    unwitnessed: 0,
    tokens: 99,
  },
  mailsExpected: 3,
  mailsDelivered: 3,
  mailsWrong: 0,
  replayMs: [12.34, 20.05],
  resumeMs: [2_100.4, 2_500],
  stepOverheadMs: [0.4444, 0.9],
  engineRssMbIdle: 14.26,
  engineRssMbMax: 31.04,
  archivedEvents: 60,
  archiveDifferences: [],
};

it("prints the fields of the contract, in its order", () => {
  assert.equal(
    JSON.stringify({ demo: resultOf(good) }),
    '{"demo":{"runs":3,"kills":2,"completed":3,"redundant_llm_requests":0,"llm_requests_interrupted":1,' +
      '"llm_requests_repaid":2,"interrupted_by_engine_kills":0,"mails_expected":3,"mails_delivered":3,' +
      '"replay_ms_max":20.1,"resume_ms_p50":2100,"resume_ms_max":2500,"step_overhead_ms_p50":0.444,' +
      '"step_overhead_ms_p99":0.9,"engine_rss_mb_idle":14.3,"engine_rss_mb_max":31,"archived_events":60}}',
  );
});

describe("fails unless every promise held", () => {
  it("says nothing when all did", () => assert.deepEqual(faults(good), []));
  const broken: [string, Partial<Measured>, Partial<Measured["bill"]>][] = [
    ["a run that did not complete", { completed: 2 }, {}],
    ["a redundant request", {}, { redundant: 1 }],
    ["a stream cut off by an engine kill", {}, { interruptedByEngineKills: 1 }],
    ["a mail too few", { mailsDelivered: 2 }, {}],
    ["one mail twice and another not at all", { mailsWrong: 2 }, {}],
    ["no request at all", {}, { requests: 0 }],
    ["a blind witness", {}, { unwitnessed: 1 }],
    ["nothing in the archive", { archivedEvents: 0 }, {}],
    ["other costs in the archive", { archiveDifferences: ["one"] }, {}],
  ];
  for (const [name, measured, bill] of broken) {
    it(name, () => assert.equal(faults({ ...good, ...measured, bill: { ...good.bill, ...bill } }).length, 1));
  }
});

it("reads the command line", () => {
  assert.deepEqual(parseOptions([]), { json: false, quick: false, keep: false, help: false, lanes: 3 });
  assert.equal(parseOptions(["--quick", "--lanes", "2"]).lanes, 2);
  for (const args of [["--lanes", "0"], ["--lanes", "x"], ["--fast"], ["now"]]) {
    assert.throws(() => parseOptions(args));
  }
});
