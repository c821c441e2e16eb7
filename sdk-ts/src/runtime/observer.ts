/**
 * What a program can watch of its runs: timings and log lines.
 *
 * Owns: the types. Never: keeps anything.
 */
import type { UsedContext } from "../context/shown.js";
import type { LlmUsage } from "../llm/index.js";

/** Severity of a log line. */
export type LogLevel = "debug" | "info" | "warn" | "error";

/** Takes log lines of workflows, steps and the SDK itself. */
export type Logger = (level: LogLevel, message: string, fields: Readonly<Record<string, unknown>>) => void;

/** A step, model call or zone whose outcome was delivered. */
export interface DeliveredStep {
  sessionId: string;
  stepKey: string;
  /** Seq of its outcome. */
  seq: number;
  /** True if the outcome came from the ledger, without running the step. */
  replayed: boolean;
  /** From the request to the delivery of its outcome, in ms. */
  totalMs: number;
  /** Of that, the time spent in the step's own function (retries' waits included), in ms. */
  ownMs: number;
  /** Tokens and cost of the model calls it made. A replayed one was paid before. */
  usage: readonly LlmUsage[];
}

/** A replay whose last recorded outcome was delivered. */
export interface FinishedReplay {
  sessionId: string;
  /** Outcomes delivered from the ledger. */
  outcomes: number;
  /** From the lease's grant to the last recorded outcome's delivery, in ms. */
  replayMs: number;
}

/** A context that was delivered. */
export interface DeliveredContext extends UsedContext {
  sessionId: string;
  stepKey: string;
  /** True if it came from the ledger. */
  replayed: boolean;
}

/** Watches runs. Its functions are called synchronously on the hot path: keep them short. */
export interface RunObserver {
  stepDelivered?(step: DeliveredStep): void;
  replayFinished?(replay: FinishedReplay): void;
  /** `fallback` says that no compacted context was ready that fits. */
  contextUsed?(context: DeliveredContext): void;
}

/** Writes warnings and errors to stderr, one line each. */
export const stderrLogger: Logger = (level, message, fields) => {
  const tail = Object.keys(fields).length === 0 ? "" : ` ${JSON.stringify(fields)}`;
  console.error(`${level} ${message}${tail}`);
};
