/**
 * What clients and operators do to sessions: pause, resume, retry, cancel, terminate, release; one, or all that a filter selects.
 *
 * Owns: the public shapes and the calls. Never: decides what a session does about it (its ledger and its run do).
 *
 * Invariant O1: a call names its request (`dedupe_id`), so that it can be made again after a lost answer.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { CellaflowError, MisuseError } from "../errors.js";
import { PauseReason } from "../gen/cellaflow/v1/common_pb.js";
import {
  BatchSessionsRequestSchema,
  CancelSessionRequestSchema,
  OperatorService,
  PauseSessionRequestSchema,
  ReleaseSessionRequestSchema,
  ResumeSessionRequestSchema,
  RetrySessionRequestSchema,
  SessionAction,
  TerminateSessionRequestSchema,
} from "../gen/cellaflow/v1/operator_pb.js";
import {
  GetSessionRequestSchema,
  SessionFilterSchema,
  SessionService,
  type SessionFilter as Wire,
} from "../gen/cellaflow/v1/session_pb.js";
import { type CallOptions, type ClientCore, refOf, type SessionName } from "./core.js";
import { type SessionInfo, type SessionStatus, sessionInfo, statusFilter } from "./session.js";

/** Selects sessions that have not ended. What is not given restricts nothing; at least one condition must be given. */
export interface SessionFilter {
  status?: readonly SessionStatus[];
  workflow?: string;
  version?: string;
  /** All of these labels. */
  labels?: Readonly<Record<string, string>>;
  /** Started then or later. */
  startedAfter?: Date;
  /** Started before. */
  startedBefore?: Date;
  /** Paused for this reason. */
  pauseReason?: "requested" | "effect_unknown" | "nondeterminism" | "retries_exhausted" | "budget";
}

/** Options of an operation. */
export interface OperationOptions extends CallOptions {
  /** Why, in words, at most 1,024 bytes. */
  reason?: string;
  /** Changes nothing and says to which sessions it would be done. Default: false. */
  dryRun?: boolean;
}

/** What became of one session. */
export interface OperationOutcome {
  session: SessionInfo;
  /** Reason code of the refusal; undefined: it was done, or would be in a dry run. */
  code: string | undefined;
  /** What happened and what to do about it, if it was refused. */
  message: string | undefined;
}

/** What an operation on a filter came to. */
export interface OperationReport {
  /** Sessions that the filter selected. */
  matched: number;
  /** Sessions it was done to, or would be. */
  done: number;
  refused: number;
  /** Each of them, oldest first. */
  outcomes: OperationOutcome[];
}

/** The verbs. */
export type Operation = "pause" | "resume" | "retry" | "cancel" | "terminate" | "release";

/** One verb, for one session or for all that a filter selects. */
export interface Operate {
  /** @throws CellaflowError `session_not_found`, `session_ended`, `session_not_paused` */
  (session: SessionName, options?: OperationOptions): Promise<SessionInfo>;
  (filter: SessionFilter, options?: OperationOptions): Promise<OperationReport>;
}

/** What clients can do to sessions. */
export interface Operations {
  /** Pauses: what has begun may commit, nothing new begins until it is resumed. */
  readonly pause: Operate;
  /** Resumes what is paused. */
  readonly resume: Operate;
  /** Resumes what is paused, and gives steps whose attempts are used up a fresh round. */
  readonly retry: Operate;
  /** Asks to cancel: children end first, then `ctx.onCancel` runs, then the session ends. */
  readonly cancel: Operate;
  /** Ends a session and its children at once, without cleanup. Effects that were begun are reported as unknown. */
  readonly terminate: Operate;
  /**
   * Lets sessions go on that wait since the ledger was restored from a backup. What they did after the backup was made is
   * not in it and may be done again. A filter without a condition selects all that wait.
   */
  readonly release: Operate;
}

/** Makes the verbs of a client. */
export function operationsOf(core: ClientCore): Operations {
  const verb = (operation: Operation): Operate => {
    // biome-ignore lint/suspicious/noExplicitAny: the two signatures of the interface are told apart below.
    return ((target: SessionName | SessionFilter, options: OperationOptions = {}): Promise<any> =>
      isName(target) ? one(core, operation, target, options) : all(core, operation, target, options)) as Operate;
  };
  return {
    pause: verb("pause"),
    resume: verb("resume"),
    retry: verb("retry"),
    cancel: verb("cancel"),
    terminate: verb("terminate"),
    release: verb("release"),
  };
}

const ACTIONS: Readonly<Record<Operation, SessionAction>> = {
  pause: SessionAction.PAUSE,
  resume: SessionAction.RESUME,
  retry: SessionAction.RETRY,
  cancel: SessionAction.CANCEL,
  terminate: SessionAction.TERMINATE,
  release: SessionAction.RELEASE,
};

const PAUSES: Readonly<Record<NonNullable<SessionFilter["pauseReason"]>, PauseReason>> = {
  requested: PauseReason.REQUESTED,
  effect_unknown: PauseReason.EFFECT_UNKNOWN,
  nondeterminism: PauseReason.NONDETERMINISM,
  retries_exhausted: PauseReason.RETRIES_EXHAUSTED,
  budget: PauseReason.BUDGET,
};

function isName(target: SessionName | SessionFilter): target is SessionName {
  return typeof target === "string" || "key" in target;
}

async function one(
  core: ClientCore,
  operation: Operation,
  name: SessionName,
  { reason = "", dryRun = false, signal }: OperationOptions,
): Promise<SessionInfo> {
  const sessionId = typeof name === "string" && !dryRun ? name : (await find(core, name, signal)).sessionId;
  if (dryRun) return find(core, sessionId, signal);
  const dedupeId = crypto.getRandomValues(new Uint8Array(16)); // O1
  const { session } = await call(core, operation, { sessionId, reason, dedupeId }, signal);
  return sessionInfo(session);
}

function call(
  core: ClientCore,
  operation: Operation,
  fields: { sessionId: string; reason: string; dedupeId: Uint8Array<ArrayBuffer> },
  signal: AbortSignal | undefined,
) {
  const { method } = OperatorService;
  const { sessionId, dedupeId } = fields;
  switch (operation) {
    case "pause":
      return core.call(method.pauseSession, create(PauseSessionRequestSchema, fields), { signal });
    case "resume":
      return core.call(method.resumeSession, create(ResumeSessionRequestSchema, { sessionId, dedupeId }), { signal });
    case "retry":
      return core.call(method.retrySession, create(RetrySessionRequestSchema, fields), { signal });
    case "cancel":
      return core.call(method.cancelSession, create(CancelSessionRequestSchema, fields), { signal });
    case "release":
      return core.call(method.releaseSession, create(ReleaseSessionRequestSchema, { sessionId, dedupeId }), { signal });
    case "terminate":
      return core.call(method.terminateSession, create(TerminateSessionRequestSchema, fields), { signal });
  }
}

async function find(core: ClientCore, name: SessionName, signal: AbortSignal | undefined): Promise<SessionInfo> {
  const request = create(GetSessionRequestSchema, { session: refOf(name) });
  return sessionInfo((await core.call(SessionService.method.getSession, request, { signal })).session);
}

/** @throws MisuseError `empty_filter`, as a rejection */
async function all(
  core: ClientCore,
  operation: Operation,
  filter: SessionFilter,
  { reason = "", dryRun = false, signal }: OperationOptions,
): Promise<OperationReport> {
  const request = create(BatchSessionsRequestSchema, {
    action: ACTIONS[operation],
    filter: wire(filter, operation),
    reason,
    dryRun,
  });
  const outcomes: OperationOutcome[] = [];
  for await (const { body } of core.stream(OperatorService.method.batchSessions, request, signal)) {
    if (body.case === "result") outcomes.push(outcomeOf(body.value));
    else if (body.case === "summary") {
      const { matched, done, refused } = body.value;
      return { matched: Number(matched), done: Number(done), refused: Number(refused), outcomes };
    }
  }
  const problem = `the answer broke off after ${outcomes.length} sessions`;
  throw new CellaflowError("unavailable", problem, "call it again: what was done stays done", { retryable: true });
}

function outcomeOf(result: {
  session?: Parameters<typeof sessionInfo>[0];
  code: string;
  message: string;
}): OperationOutcome {
  const { session, code, message } = result;
  return { session: sessionInfo(session), code: code || undefined, message: message || undefined };
}

function wire(filter: SessionFilter, operation: Operation): Wire {
  const { status, workflow, version, labels, startedAfter, startedBefore, pauseReason } = filter;
  const conditions: MessageInitShape<typeof SessionFilterSchema> = {};
  if (status !== undefined) conditions.statuses = statusFilter(status);
  if (workflow !== undefined) conditions.workflow = workflow;
  if (version !== undefined) conditions.version = version;
  if (labels !== undefined) conditions.labels = { ...labels };
  if (startedAfter !== undefined) conditions.startedAfterMs = BigInt(startedAfter.getTime());
  if (startedBefore !== undefined) conditions.startedBeforeMs = BigInt(startedBefore.getTime());
  if (pauseReason !== undefined) conditions.pauseReason = PAUSES[pauseReason];
  if (Object.keys(conditions).length === 0 && operation !== "release") {
    throw new MisuseError(
      "empty_filter",
      "the filter has no condition, so it would concern every session",
      'give at least one, e.g. { status: ["pending", "running", "waiting", "paused"] }',
    );
  }
  return create(SessionFilterSchema, conditions);
}
