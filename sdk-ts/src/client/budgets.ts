/**
 * Budgets from outside: reading how they stand, raising them.
 *
 * Owns: the public form of limits (USD, milliseconds). Never: reserves (`runtime/budget.ts`).
 */
import { create } from "@bufbuild/protobuf";
import { MisuseError } from "../errors.js";
import { type Budget, BudgetSchema, type BudgetState, type BudgetUse } from "../gen/cellaflow/v1/common_pb.js";
import { OperatorService, RaiseBudgetRequestSchema } from "../gen/cellaflow/v1/operator_pb.js";
import { GetBudgetRequestSchema, SessionService } from "../gen/cellaflow/v1/session_pb.js";
import { type CallOptions, type ClientCore, refOf, type SessionName } from "./core.js";

const NANOS_PER_USD = 1e9;

/** What may be spent at most; what is left out is not limited. */
export interface BudgetLimits {
  /** Money in USD, at least a nano-dollar. */
  usd?: number;
  /** Input (cached or not) and output tokens together. */
  tokens?: number;
  /** Outcomes of steps and zones. */
  steps?: number;
  /** Milliseconds from the session's start. */
  wallMs?: number;
}

/** What was spent, or is reserved for calls without outcome. */
export interface BudgetAmounts {
  usd: number;
  tokens: number;
  steps: number;
}

/** How a budget stands. */
export interface BudgetInfo {
  /** The session that owns it. */
  sessionId: string;
  limits: BudgetLimits;
  /** By all sessions under it. */
  spent: BudgetAmounts;
  reserved: BudgetAmounts;
  /** When its wall time is over, in ms since the Unix epoch. */
  deadlineMs?: number;
}

/** Returns limits as the wire has them. @throws MisuseError `invalid_budget` */
export function storedLimits(limits: BudgetLimits): Budget {
  const { usd = 0, tokens = 0, steps = 0, wallMs = 0 } = limits;
  const whole = { tokens, steps, wallMs, "usd in nano-dollars": Math.round(usd * NANOS_PER_USD) };
  for (const [kind, amount] of Object.entries(whole)) {
    if (Number.isSafeInteger(amount) && amount >= 0) continue;
    throw new MisuseError("invalid_budget", `the budget's ${kind} is ${amount}`, "use a whole number above 0");
  }
  if (Object.values(whole).every((amount) => amount === 0)) {
    throw new MisuseError("invalid_budget", "the budget limits nothing", "name usd, tokens, steps or wallMs above 0");
  }
  return create(BudgetSchema, {
    costNanos: BigInt(Math.round(usd * NANOS_PER_USD)),
    tokens: BigInt(tokens),
    steps: BigInt(steps),
    wallMs: BigInt(wallMs),
  });
}

/** Reads the budgets above a session. */
export async function budgetsOf(
  core: ClientCore,
  session: SessionName,
  { signal }: CallOptions = {},
): Promise<BudgetInfo[]> {
  const request = create(GetBudgetRequestSchema, { session: refOf(session) });
  const { budgets } = await core.call(SessionService.method.getBudget, request, { signal });
  return budgets.map(budgetInfo);
}

/** Raises a session's budget. */
export async function raiseBudget(
  core: ClientCore,
  sessionId: string,
  limits: BudgetLimits,
  { signal }: CallOptions = {},
): Promise<BudgetInfo> {
  const dedupeId = crypto.getRandomValues(new Uint8Array(16));
  const request = create(RaiseBudgetRequestSchema, { sessionId, limits: storedLimits(limits), dedupeId });
  const { budget } = await core.call(OperatorService.method.raiseBudget, request, { signal });
  return budgetInfo(budget);
}

function budgetInfo(state: BudgetState | undefined): BudgetInfo {
  const deadlineMs = Number(state?.deadlineMs ?? 0);
  return {
    sessionId: state?.sessionId ?? "",
    limits: limitsOf(state?.limits),
    spent: amountsOf(state?.spent),
    reserved: amountsOf(state?.reserved),
    ...(deadlineMs === 0 ? {} : { deadlineMs }),
  };
}

function limitsOf(budget: Budget | undefined): BudgetLimits {
  const limits: BudgetLimits = {};
  if (budget === undefined) return limits;
  if (budget.costNanos !== 0n) limits.usd = Number(budget.costNanos) / NANOS_PER_USD;
  if (budget.tokens !== 0n) limits.tokens = Number(budget.tokens);
  if (budget.steps !== 0n) limits.steps = Number(budget.steps);
  if (budget.wallMs !== 0n) limits.wallMs = Number(budget.wallMs);
  return limits;
}

function amountsOf(use: BudgetUse | undefined): BudgetAmounts {
  return {
    usd: Number(use?.costNanos ?? 0n) / NANOS_PER_USD,
    tokens: Number(use?.tokens ?? 0n),
    steps: Number(use?.steps ?? 0n),
  };
}
