/**
 * The demo's last line: what it measured, and whether that is good enough.
 */
import type { Bill } from "#sdk/harness/account.js";
import { largest, percentile, rounded } from "./figures.js";

/** Everything that was measured. */
export interface Measured {
  runs: number;
  kills: number;
  completed: number;
  bill: Bill;
  mailsExpected: number;
  mailsDelivered: number;
  /** Sessions whose report was not delivered exactly once. */
  mailsWrong: number;
  replayMs: readonly number[];
  resumeMs: readonly number[];
  /** Per step of the runs without kills, in ms. */
  stepOverheadMs: readonly number[];
  engineRssMbIdle: number;
  engineRssMbMax: number;
  /** Events that were moved into the archive. */
  archivedEvents: number;
  /** Sessions of which the archive and the model server tell different tokens or cost, in words. */
  archiveDifferences: readonly string[];
}

/** The last line's content; names and order are a contract. */
export interface Result {
  runs: number;
  kills: number;
  completed: number;
  redundant_llm_requests: number;
  llm_requests_interrupted: number;
  llm_requests_repaid: number;
  interrupted_by_engine_kills: number;
  mails_expected: number;
  mails_delivered: number;
  replay_ms_max: number;
  resume_ms_p50: number;
  resume_ms_max: number;
  step_overhead_ms_p50: number;
  step_overhead_ms_p99: number;
  engine_rss_mb_idle: number;
  engine_rss_mb_max: number;
  archived_events: number;
}

/** Turns measurements into the last line's content. */
export function resultOf(measured: Measured): Result {
  const { bill } = measured;
  return {
    runs: measured.runs,
    kills: measured.kills,
    completed: measured.completed,
    redundant_llm_requests: bill.redundant,
    llm_requests_interrupted: bill.interrupted,
    llm_requests_repaid: bill.repaid,
    interrupted_by_engine_kills: bill.interruptedByEngineKills,
    mails_expected: measured.mailsExpected,
    mails_delivered: measured.mailsDelivered,
    replay_ms_max: rounded(largest(measured.replayMs), 1),
    resume_ms_p50: rounded(percentile(measured.resumeMs, 50), 0),
    resume_ms_max: rounded(largest(measured.resumeMs), 0),
    step_overhead_ms_p50: rounded(percentile(measured.stepOverheadMs, 50), 3),
    step_overhead_ms_p99: rounded(percentile(measured.stepOverheadMs, 99), 3),
    engine_rss_mb_idle: rounded(measured.engineRssMbIdle, 1),
    engine_rss_mb_max: rounded(measured.engineRssMbMax, 1),
    archived_events: measured.archivedEvents,
  };
}

/** Why the demo failed, in words; empty: it did not. */
export function faults(measured: Measured): string[] {
  const { bill } = measured;
  const found: [boolean, string][] = [
    [
      measured.completed !== measured.runs,
      `${measured.runs - measured.completed} of ${measured.runs} runs did not complete`,
    ],
    [bill.requests === 0, "no request reached the model server: nothing was tested"],
    [bill.redundant !== 0, `${bill.redundant} model requests were made although the answer was already committed`],
    [
      bill.interruptedByEngineKills !== 0,
      `${bill.interruptedByEngineKills} model requests were cut off by killing only the engine`,
    ],
    [
      bill.unwitnessed !== 0,
      `${bill.unwitnessed} model calls are missing from the acknowledgement logs, so redundant requests could not be noticed`,
    ],
    [
      measured.mailsDelivered !== measured.mailsExpected || measured.mailsWrong !== 0,
      `${measured.mailsDelivered} mails were delivered instead of ${measured.mailsExpected}; wrong for ${measured.mailsWrong} sessions`,
    ],
    [measured.archivedEvents === 0, "nothing was archived"],
    [
      measured.archiveDifferences.length > 0,
      `${measured.archiveDifferences.length} sessions cost something else in the archive, first: ${measured.archiveDifferences[0]}`,
    ],
  ];
  return found.flatMap(([wrong, text]) => (wrong ? [text] : []));
}
