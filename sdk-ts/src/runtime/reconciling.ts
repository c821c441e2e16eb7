/**
 * Asks the tool of a guarded step what became of an attempt that nobody reported.
 *
 * Owns: when it is asked, and how often. Never: says what follows from the answer (`guard.ts` does).
 *
 * Invariant Q1: a run asks about an attempt once; if `reconcile` throws, as often as the step would be tried.
 */
import type { Attempt, Tried } from "./attempt.js";
import type { GuardWork } from "./guard-work.js";
import type { Finding } from "./options.js";
import type { RequestSpec } from "./request.js";
import { attemptsOf, backoffMs } from "./retry.js";
import type { Run } from "./run.js";

/** What it asks of its step. */
export interface ReconciledStep<T> {
  readonly spec: RequestSpec;
  ownMs: number;
  attemptOf(number: number, timeoutMs: number): Attempt;
  /** Takes what the tool says. */
  found(number: number, finding: Finding<T>): void;
}

export class Reconciling<T> {
  /** Last attempt that was asked about (Q1). */
  private asked = 0;
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly run: Run,
    private readonly step: ReconciledStep<T>,
    private readonly work: GuardWork<T>,
  ) {}

  /** Nobody will report this attempt any more. */
  due(number: number): void {
    if (this.work.policy !== "reconcile" || this.asked >= number || !this.run.isRunning) return;
    this.asked = number;
    // What it finds has to be appended.
    const { journal } = this.run.settings;
    if (journal.full) journal.whenRoom(() => this.ask(number, 1));
    else this.ask(number, 1);
  }

  stop(): void {
    clearTimeout(this.timer);
  }

  private ask(number: number, round: number): void {
    const { reconcile } = this.work;
    if (reconcile === undefined || !this.run.isRunning) return;
    const { step } = this;
    const attempt = step.attemptOf(number, this.work.timeoutMs ?? this.run.settings.limits.guardAttemptMs);
    this.run.activity.began(attempt);
    let over = false;
    const settled = (tried: Tried<Finding<T>>): void => {
      if (over) return;
      over = true;
      step.ownMs += attempt.elapsedMs;
      if (tried.ok) step.found(number, tried.value);
      else this.askAgain(number, round, tried.thrown);
      this.run.activity.finished(attempt);
    };
    const place = { run: this.run, kind: "step", name: step.spec.name } as const;
    attempt.start(
      place,
      () => reconcile(attempt),
      settled,
      (thrown) => settled({ ok: false, thrown }),
    );
  }

  private askAgain(number: number, round: number, thrown: unknown): void {
    const { log, session, limits } = this.run.settings;
    const fields = { sessionId: session.sessionId, stepKey: this.step.spec.key, round, error: String(thrown) };
    log("warn", "reconcile threw", fields);
    const { retry: defaults } = limits;
    if (round >= attemptsOf(this.work.retry, defaults.attemptsMax)) return this.step.found(number, "unknown");
    this.timer = setTimeout(() => this.ask(number, round + 1), backoffMs(this.work.retry, defaults, round));
  }
}
