/**
 * What a client is for those who use it: its calls, their options, what they return.
 *
 * Owns: the public shapes. Never: behaviour (`client.ts`).
 */
import type { StepError } from "../failure.js";
import type { RunOptions } from "../internal/hosting.js";
import type { Workflow } from "../runtime/workflow.js";
import type { ConnectionOptions } from "../transport/lookup.js";
import type { ApprovalInfo, ApprovalRef, DecideOptions } from "./approvals.js";
import type { BudgetInfo, BudgetLimits } from "./budgets.js";
import type { CheckOptions, CheckResult } from "./check.js";
import type { CallOptions, SessionName } from "./core.js";
import type { BranchDiff } from "./diff.js";
import type { EventInfo } from "./events.js";
import type { ForkOptions, SessionState } from "./fork.js";
import type { Operations } from "./operations.js";
import type { QueryOptions, SessionView } from "./query.js";
import type { StepResolution } from "./resolve.js";
import type { RunPromise } from "./run-stream.js";
import type { SessionInfo, SessionStatus } from "./session.js";
import type { SendSignalOptions, SignalReceipt } from "./signals.js";
import type { StreamItem, SubscribeOptions } from "./subscribe.js";
import type { VersionOperations } from "./versions.js";

/** What a client is made of. */
export interface ClientOptions extends RunOptions {
  /** Where the engine is. Default: looked up. */
  connection?: ConnectionOptions;
}

/** How a session is started. */
export interface StartOptions extends CallOptions {
  /** Names the session: using it again returns that session. At most 512 bytes. Default: always a new session. */
  key?: string;
  /**
   * What the session and its children may spend at most. Running out pauses; `raiseBudget` goes on. Ignored if the key
   * names a session that is there already. Default: not limited.
   */
  budget?: BudgetLimits;
  /** What happens if the key's session has ended. Default: "return" it with its result. */
  ifEnded?: "return" | "restart";
  /** Labels to find it by: at most 16, all together at most 1,024 bytes. Children and forks have them, too. */
  labels?: Readonly<Record<string, string>>;
  /**
   * Time the session has in ms, whatever it does and wherever it runs; when it is over it is cancelled with the reason
   * "timed out", and its cleanup runs. Default: as long as it takes.
   */
  timeoutMs?: number;
}

/** How a session is run in this process. */
export interface RunHereOptions extends StartOptions {
  /** How long another worker's run of the session is followed before `runningElsewhere`, in ms. Default: 60,000. */
  waitMs?: number;
  /**
   * What happens while the session only waits (for a timer, signal, approval or child) and is given back: "return" with
   * `waiting`, or "follow" it and go on here when it can. Default: "return".
   */
  whileWaiting?: WhileWaiting;
  /** Gives the session back (begun steps finish within 30 s) and rejects. */
  signal?: AbortSignal;
  /**
   * From this long after the call on no new step begins: begun ones finish (within `handOverMs`), the session is given
   * back, and the result is "handedOver". Using the key again, here or elsewhere, goes on. For processes that may only
   * live so long. In ms. Default: none.
   */
  deadlineMs?: number;
  /** How long begun steps get after the deadline before they are aborted, in ms. Default: 30,000. */
  handOverMs?: number;
}

/** What to do while a session waits. */
export type WhileWaiting = "return" | "follow";

/** A workflow whose code is elsewhere. */
export interface NamedWorkflow {
  name: string;
  /** Default: the newest that a worker serves or has served and that is not drained. */
  version?: string;
}

/** How long a result is waited for. */
export interface ResultOptions extends CallOptions {
  /** In ms. */
  waitMs?: number;
  /** "return" also when the session only waits, or "follow" it to its end or pause. Default: "return". */
  whileWaiting?: WhileWaiting;
}

/** Which sessions are listed. */
export interface ListOptions extends CallOptions {
  /** Only sessions of this version of their workflow. Default: all. */
  version?: string;
  /** Only sessions that have all of these labels. Default: all. */
  labels?: Readonly<Record<string, string>>;
  /** Only sessions started then or later. Default: all. */
  startedAfter?: Date;
  /** Only sessions started before. Default: all. */
  startedBefore?: Date;
  /** Only sessions whose known cost in US dollars is at least this. Default: all. */
  costMin?: number;
  /** Only sessions whose known cost in US dollars is at most this. Default: all. */
  costMax?: number;
  /** Only sessions that wait for `release` since the ledger was restored. Default: all. */
  held?: boolean;
  /** Only these states. Default: all. */
  status?: readonly SessionStatus[];
  /** Only this workflow. Default: all. */
  workflow?: string;
  /** At most so many. Default: all. */
  limit?: number;
}

/** How a session stands; of one that was continued, how its last successor does (`sessionId` is that one's). */
export type SessionResult<O = unknown> =
  | { status: "completed"; sessionId: string; output: O }
  | { status: "failed"; sessionId: string; failure: StepError }
  | { status: "cancelled"; sessionId: string }
  /** It waits for a timer, signal, approval or child, and holds no process. */
  | { status: "waiting"; sessionId: string; reason: string }
  /** Somebody has to resume it; `reason` says why. */
  | { status: "paused"; sessionId: string; reason: string }
  /** This run's deadline came: the session was given back and goes on wherever it is run next. */
  | { status: "handedOver"; sessionId: string; reason: string }
  /** Another worker runs it, or it waits for one. */
  | { status: "runningElsewhere"; sessionId: string; reason: string };

/** A client of an engine. */
export interface Client extends Operations, VersionOperations {
  /**
   * Starts a session for some worker to run; returns the key's session if there is one. A workflow that is only named
   * runs in the version it is named with, or in the newest one that is not drained; its input is not checked here.
   *
   * @throws CellaflowError `version_draining`: this version starts no new sessions; `no_version`: none does
   * @throws CellaflowError `key_conflict` when the key's session has another input
   */
  start<I, O>(workflow: Workflow<I, O>, input: I, options?: StartOptions): Promise<SessionHandle<O>>;
  start<O = unknown>(workflow: NamedWorkflow, input: unknown, options?: StartOptions): Promise<SessionHandle<O>>;
  /** Returns a handle of a session. No call is made. */
  attach<O = unknown>(sessionId: string): SessionHandle<O>;
  /** Returns what a session is, by id or by workflow and key. @throws CellaflowError `session_not_found` */
  get(session: SessionName, options?: CallOptions): Promise<SessionInfo>;
  /** Returns how a session stands; waits up to `waitMs` (default 0) for it to end, pause or wait. */
  result<O = unknown>(sessionId: string, options?: ResultOptions): Promise<SessionResult<O>>;
  /** Lists sessions, newest first. */
  list(options?: ListOptions): AsyncIterable<SessionInfo>;
  /**
   * Runs a session in this process: starts it and takes its lease in one step, or binds to the key's session again and
   * goes on where it stood. A live lease is never taken: the other run is followed for `waitMs`, then
   * `runningElsewhere`. A session that waits or is paused returns at once.
   *
   * @throws CellaflowError `version_mismatch` when the session is pinned to another version; nothing was changed
   * @throws CellaflowError `key_conflict` when the key's session has another input
   */
  run<I, O>(workflow: Workflow<I, O>, input: I, options?: RunHereOptions): RunPromise<O>;
  /**
   * Streams a session from an offset on: events, and what zones stream while they stream it. Lost connections and engine
   * restarts are not seen; nothing is lost or repeated.
   *
   * @throws CellaflowError `session_not_found`, `invalid_offset`
   */
  subscribe(session: SessionName, options?: SubscribeOptions): AsyncIterable<StreamItem>;
  /**
   * Sends a session a signal: to the oldest `ctx.signal` of this name, or kept until there is one. Repeated over lost
   * connections; received once.
   *
   * @throws CellaflowError `session_ended`, `signals_full` (64 are kept), `signal_conflict` (the id had another value)
   */
  signal(session: SessionName, name: string, value: unknown, options?: SendSignalOptions): Promise<SignalReceipt>;
  /** Lists the open approvals of a session, oldest first. */
  approvals(session: SessionName, options?: CallOptions): Promise<ApprovalInfo[]>;
  /** Returns one approval, open or decided. @throws CellaflowError `approval_not_found` */
  approval(session: SessionName, stepKey: string, options?: CallOptions): Promise<ApprovalInfo>;
  /**
   * Approves exactly the call that was read with {@link Client.approvals}.
   *
   * @throws CellaflowError `approval_mismatch` (another call than the one shown), `approval_decided`, `approval_expired`
   */
  approve(approval: ApprovalRef, options?: DecideOptions): Promise<void>;
  /** Rejects a call. @see Client.approve */
  reject(approval: ApprovalRef, options?: DecideOptions): Promise<void>;
  /**
   * Returns what a session's code has kept (`ctx.state`, `ctx.messages`), from its events; its worker is not asked, and
   * it need not have one.
   */
  query(session: SessionName, options?: QueryOptions): Promise<SessionView>;
  /** Says how the budgets stand that a session is under, nearest first; empty: it is under none. */
  budget(session: SessionName, options?: CallOptions): Promise<BudgetInfo[]>;
  /**
   * Raises the budget that a session owns and resumes what was paused for it. What is left out stays.
   *
   * @throws CellaflowError `invalid_argument` for a smaller limit, or one on what was not limited
   */
  raiseBudget(sessionId: string, limits: BudgetLimits, options?: CallOptions): Promise<BudgetInfo>;
  /**
   * Says what became of a guarded step whose outcome is unknown, and resumes the session if it is paused for that.
   *
   * @throws CellaflowError `guard_not_due` while the attempt may still report, `guard_not_open`
   */
  resolveStep(sessionId: string, stepKey: string, resolution: StepResolution, options?: CallOptions): Promise<void>;
  /** Returns what a session was at an event: input, `ctx.state`, `ctx.messages`, outcomes. */
  stateAt(session: SessionName, seq: number, options?: CallOptions): Promise<SessionState>;
  /**
   * Starts a session that goes on from the middle of another one, which is not touched, with edits. A worker runs it, or
   * {@link Client.runSession}. Its guarded effects are stubbed unless `effects: "live"`.
   *
   * @throws CellaflowError `invalid_argument` (cut or edit that cannot be), `key_conflict`
   */
  fork<O = unknown>(session: SessionName, options?: ForkOptions): Promise<SessionHandle<O>>;
  /** Compares two sessions by outcomes, tokens and cost. */
  diff(a: SessionName, b: SessionName, options?: CallOptions): Promise<BranchDiff>;
  /**
   * Accepts what a session's code asked for in place of what was recorded, and resumes it.
   *
   * @throws CellaflowError `session_not_paused` (not for a nondeterminism), `not_repairable` (fork before it instead)
   */
  acceptDivergence(session: SessionName, options?: CallOptions): Promise<void>;
  /**
   * Runs code over a session's ledger without a lease, an effect or an event: does it ask for what was recorded? For
   * sessions that sleep, are paused or have no worker, before a new version serves them.
   *
   * @returns compatible, with what the code would do next, or the first difference with both sides
   * @throws CellaflowError `session_not_found`, `check_undecided`; MisuseError `invalid_check` for another workflow's code
   */
  check(session: SessionName, options: CheckOptions): Promise<CheckResult>;
  /**
   * Changes the labels of a session that has not ended; undefined removes one.
   *
   * @throws CellaflowError `session_ended`, `invalid_argument` (more than 16, or more than 1,024 bytes)
   */
  setLabels(
    session: SessionName,
    labels: Readonly<Record<string, string | undefined>>,
    options?: CallOptions,
  ): Promise<SessionInfo>;
  /** Runs a session that is there in this process: as {@link Client.run} goes on with the session of a key. */
  runSession<I, O>(workflow: Workflow<I, O>, sessionId: string, options?: RunHereOptions): Promise<SessionResult<O>>;
}

/** One session. */
export interface SessionHandle<O = unknown> {
  readonly sessionId: string;
  /** False if the key named a session that was there already; true also when it was not started by this handle. */
  readonly created: boolean;
  get(options?: CallOptions): Promise<SessionInfo>;
  /** Waits for the end: @see Client.result. Default: as long as it takes. */
  result(options?: ResultOptions): Promise<SessionResult<O>>;
  /** The events of the session, oldest first, then live ones until it ends. */
  events(options?: { fromSeq?: number; live?: boolean; signal?: AbortSignal }): AsyncIterable<EventInfo>;
}
