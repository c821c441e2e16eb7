/**
 * What a run does about budgets: it reserves the worst case before each call, and says what it has used.
 *
 * Owns: the run's reservations, its own sums. Never: decides whether there is enough left (the engine does), prices
 * anything (`llm/worst.ts`).
 *
 * Invariants:
 * - M1 under a budget no model call is made, and under a limit on steps no step begun, before its reservation is durable.
 * - M2 a reservation that is refused for want of budget pauses the session; nothing is thrown into workflow code.
 * - M3 under a limit on money a model without a price is refused before any call, as a failure of that call.
 * - M4 what was reserved and not begun is given back.
 */
import { create } from "@bufbuild/protobuf";
import { CellaflowError } from "../errors.js";
import { PauseReason, type Refusal, type SessionBudget, type Usage } from "../gen/cellaflow/v1/common_pb.js";
import {
  BudgetReleasedSchema,
  BudgetReservedSchema,
  type Event,
  type LlmCall,
  SessionPausedSchema,
} from "../gen/cellaflow/v1/event_pb.js";
import type { AfterMark, AppendOp } from "./journal.js";
import { failurePayload } from "./payloads.js";
import type { Run } from "./run.js";

/** How long other begun work may go on after a pause, in ms. */
const GRACE_MS = 30_000;
/** When to ask again while the engine has no room, in ms, at least. */
const AGAIN_MS = 50;

/** The most that one model call may use. */
export interface WorstCase {
  /** In nano-dollars; undefined: the model's price is unknown. */
  costNanos: bigint | undefined;
  tokens: number;
}

/** What is about to begin. */
export interface BudgetAsk {
  key: string;
  attempt: number;
  after: AfterMark;
  /** It counts as a step. */
  step: boolean;
  /** Gives up what cannot go on without it, when the session pauses. */
  giveUp?: ((reason: CellaflowError) => void) | undefined;
  /** It is a model call that uses this at most. */
  worst?: (() => WorstCase) | undefined;
}

/** What a session has used by itself, its children not counted. */
export interface SessionUsage {
  /** Money in USD; calls without a known price are missing. */
  usd: number;
  /** Input (cached or not) and output tokens together. */
  tokens: number;
  /** Outcomes of steps and zones. */
  steps: number;
  llmCalls: number;
  /** Model calls whose price was unknown. */
  unpricedCalls: number;
}

interface Kinds {
  cost: boolean;
  tokens: boolean;
  steps: boolean;
  wall: boolean;
}

/** The budgets of one run. */
export class Budgets {
  private kinds: Kinds = { cost: false, tokens: false, steps: false, wall: false };
  private readonly calls = new Map<string, number>();
  private readonly counted = new Set<number>();
  private costNanos = 0n;
  private tokens = 0;
  private steps = 0;
  private llmCalls = 0;
  private unpricedCalls = 0;

  constructor(private readonly run: Run) {}

  /** Takes the budgets that the session was started under. */
  started(budget: SessionBudget | undefined): void {
    for (const owner of budget?.owners ?? []) {
      this.kinds.cost ||= owner.cost;
      this.kinds.tokens ||= owner.tokens;
      this.kinds.steps ||= owner.steps;
      this.kinds.wall ||= owner.wall;
    }
  }

  /** What this run knows to be used. */
  get usage(): SessionUsage {
    const { tokens, steps, llmCalls, unpricedCalls } = this;
    return { usd: Number(this.costNanos) / 1e9, tokens, steps, llmCalls, unpricedCalls };
  }

  /** Counts an event, or what became one, once. */
  count(seq: number, body: AppendOp | Event["body"]): void {
    if (seq <= 0 || this.counted.has(seq)) return;
    switch (body.case) {
      case "stepCompleted":
        this.costNanos += body.value.costNanos;
        this.steps += 1;
        this.called(body.value.llm === undefined ? [] : [body.value.llm]);
        break;
      case "stepFailed":
        if (body.value.final) this.steps += 1;
        if (body.value.usage !== undefined) this.used(body.value.usage);
        break;
      case "zoneCommitted":
        this.costNanos += body.value.costNanos;
        this.steps += 1;
        this.called(body.value.llmCalls);
        break;
      case "zoneFailed":
        if (body.value.final) this.steps += 1;
        for (const usage of body.value.usage) this.used(usage);
        break;
      default:
        return;
    }
    this.counted.add(seq);
  }

  /** Begins something once its worst case is reserved. @param failed takes what cannot be reserved at all */
  reserve(ask: BudgetAsk, begin: () => void, failed: (error: CellaflowError) => void): void {
    const { kinds } = this;
    const step = ask.step && kinds.steps;
    const call = ask.worst !== undefined && (kinds.cost || kinds.tokens || kinds.wall);
    if (!step && !call) return begin();
    const worst = ask.worst?.() ?? { costNanos: 0n, tokens: 0 };
    if (kinds.cost && worst.costNanos === undefined) return failed(priceUnknown(ask.key)); // M3
    const id = `${ask.attempt} ${ask.key}`;
    const number = (this.calls.get(id) ?? 0) + 1;
    this.calls.set(id, number);
    const value = create(BudgetReservedSchema, {
      stepKey: ask.key,
      attempt: ask.attempt,
      call: number,
      tokens: BigInt(worst.tokens),
      steps: step ? 1n : 0n,
      ...(worst.costNanos === undefined ? {} : { costNanos: worst.costNanos }),
    });
    this.run.append(ask.after, {
      op: { case: "budgetReserved", value },
      bytes: 0,
      deltas: false,
      acked: () => (this.run.isRunning ? begin() : this.release(ask)),
      refused: (refusal) => {
        this.calls.set(id, number - 1);
        this.refused(ask, refusal, begin, failed);
      },
    });
  }

  /** M4 */
  release(ask: Pick<BudgetAsk, "key" | "attempt" | "after">): void {
    const value = create(BudgetReleasedSchema, { stepKey: ask.key, attempt: ask.attempt });
    const op = { case: "budgetReleased", value } as const;
    this.run.append(ask.after, { op, bytes: 0, deltas: false, refused: () => {} });
  }

  private refused(ask: BudgetAsk, refusal: Refusal, begin: () => void, failed: (error: CellaflowError) => void): void {
    const { code, message, retryable } = refusal;
    if (code === "session_paused") return;
    if (code === "budget_exhausted") return this.pause(ask, refusal);
    if (code === "too_many_open") {
      setTimeout(
        () => {
          if (this.run.isRunning) this.reserve(ask, begin, failed);
        },
        Math.max(AGAIN_MS, Number(refusal.retryAfterMs)),
      );
      return;
    }
    failed(new CellaflowError(code, message, "see the session's budget", { retryable }));
  }

  /** M2 */
  private pause({ key: stepKey, giveUp }: BudgetAsk, { code, message }: Refusal): void {
    if (!this.run.isRunning) return;
    giveUp?.(new CellaflowError(code, message, "stop: it begins again when the session is resumed"));
    const details = failurePayload({ name: "CellaflowError", code, message, retryable: false });
    const value = create(SessionPausedSchema, { reason: PauseReason.BUDGET, stepKey, details });
    const bytes = Number(details.sizeBytes);
    const op = { case: "sessionPaused", value } as const;
    this.run.append(this.run.after, { op, bytes, deltas: false, refused: () => {} });
    void this.run.suspend("paused", GRACE_MS);
  }

  private called(calls: readonly LlmCall[]): void {
    for (const { usage } of calls) if (usage !== undefined) this.used(usage);
  }

  private used(usage: Usage): void {
    this.llmCalls += 1;
    if (usage.costNanos === undefined) this.unpricedCalls += 1;
    else this.costNanos += usage.costNanos;
    this.tokens += Number(usage.inputTokens + usage.cachedReadTokens + usage.cacheWriteTokens + usage.outputTokens);
  }
}

function priceUnknown(key: string): CellaflowError {
  return new CellaflowError(
    "price_unknown",
    `the price of the model of "${key}" is unknown and the session's budget limits money`,
    "add the model to the price list (option prices, CELLAFLOW_PRICES), or limit tokens instead",
    { data: { stepKey: key } },
  );
}
