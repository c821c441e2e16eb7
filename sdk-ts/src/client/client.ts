/**
 * A client: starts sessions, looks at them, waits for them, and runs them in its own process.
 *
 * Owns: the calls of programs that are no workers (`api.ts` says what they promise). Never: takes a live lease from anybody.
 */
import { create } from "@bufbuild/protobuf";
import { CellaflowError } from "../errors.js";
import { EngineService, IfEnded, StartSessionRequestSchema } from "../gen/cellaflow/v1/engine_pb.js";
import {
  GetSessionRequestSchema,
  ListSessionsRequestSchema,
  SessionService,
  SubscribeSessionRequestSchema,
} from "../gen/cellaflow/v1/session_pb.js";
import { connectionOf } from "../internal/connection.js";
import { quietLogger, redaction } from "../internal/hosting.js";
import { sealerOf } from "../internal/sealing.js";
import { type Logger, stderrLogger } from "../runtime/observer.js";
import { valuePayload } from "../runtime/payloads.js";
import { deferred } from "../runtime/step-promise.js";
import type { Workflow } from "../runtime/workflow.js";
import { canonicalDigest } from "../values/canonical.js";
import { payloadCodec } from "../values/hooks.js";
import type {
  Client,
  ClientOptions,
  ListOptions,
  NamedWorkflow,
  ResultOptions,
  RunHereOptions,
  SessionHandle,
  SessionResult,
  StartOptions,
} from "./api.js";
import {
  type ApprovalInfo,
  type ApprovalRef,
  approvalAt,
  type DecideOptions,
  decideApproval,
  openApprovals,
} from "./approvals.js";
import { type BudgetInfo, type BudgetLimits, budgetsOf, raiseBudget, storedLimits } from "./budgets.js";
import { type CheckOptions, type CheckResult, check, idOf } from "./check.js";
import { type CallOptions, ClientCore, refOf, type SessionName } from "./core.js";
import { type BranchDiff, diffSessions } from "./diff.js";
import { acceptDivergence } from "./divergence.js";
import { type EventInfo, eventInfo } from "./events.js";
import { untilMovable } from "./follow.js";
import { type ForkOptions, forkSession, type SessionState, stateAt } from "./fork.js";
import { listFilter, setLabels } from "./labels.js";
import { type Operate, operationsOf } from "./operations.js";
import { type QueryOptions, querySession, type SessionView } from "./query.js";
import { resolveStep, type StepResolution } from "./resolve.js";
import { awaitResult } from "./results.js";
import { HereRun } from "./run-here.js";
import { type RunPromise, withStream } from "./run-stream.js";
import { type SessionInfo, sessionInfo, statusFilter } from "./session.js";
import { type SendSignalOptions, type SignalReceipt, sendSignal } from "./signals.js";
import { type StreamItem, type SubscribeOptions, subscribe } from "./subscribe.js";
import { type VersionOperations, versionsOf } from "./versions.js";

/** Creates a client. @throws CellaflowError `no_connection`, `invalid_connection` */
export function createClient(options: ClientOptions = {}): Client {
  return new EngineClient(options);
}

class EngineClient implements Client {
  declare readonly pause: Operate;
  declare readonly resume: Operate;
  declare readonly retry: Operate;
  declare readonly cancel: Operate;
  declare readonly terminate: Operate;
  declare readonly release: Operate;
  declare readonly versions: VersionOperations["versions"];
  declare readonly drain: VersionOperations["drain"];
  declare readonly undrain: VersionOperations["undrain"];
  private readonly core: ClientCore;
  private readonly log: Logger;

  constructor(private readonly options: ClientOptions) {
    const codec = payloadCodec(redaction(options.hooks));
    this.core = new ClientCore(connectionOf(options.connection), codec, sealerOf(options.hooks));
    this.log = options.log ?? quietLogger(stderrLogger);
    Object.assign(this, operationsOf(this.core), versionsOf(this.core));
  }

  async start<I, O>(
    workflow: Workflow<I, O> | NamedWorkflow,
    input: I,
    options: StartOptions = {},
  ): Promise<SessionHandle<O>> {
    const request = await this.startRequest(workflow, input, options);
    const { session, created } = await this.core.call(EngineService.method.startSession, request, options);
    return new Handle<O>(this, session?.sessionId ?? "", created);
  }

  attach<O = unknown>(sessionId: string): SessionHandle<O> {
    return new Handle<O>(this, sessionId, true);
  }

  async get(session: SessionName, { signal }: CallOptions = {}): Promise<SessionInfo> {
    const request = create(GetSessionRequestSchema, { session: refOf(session) });
    const found = await this.core.call(SessionService.method.getSession, request, { signal });
    return sessionInfo(found.session);
  }

  async result<O = unknown>(sessionId: string, options: ResultOptions = {}): Promise<SessionResult<O>> {
    const until = performance.now() + (options.waitMs ?? 0);
    const { signal } = options;
    for (;;) {
      const result = await awaitResult<O>(this.core, sessionId, { waitMs: until - performance.now(), signal });
      const leftMs = until - performance.now();
      const follow = result.status === "waiting" && options.whileWaiting === "follow";
      if (follow && (await untilMovable(this.core, sessionId, { signal, waitMs: leftMs }))) continue;
      if (result.status !== "runningElsewhere" || leftMs <= 0) return result;
    }
  }

  async *list(options: ListOptions = {}): AsyncGenerator<SessionInfo> {
    let left = options.limit ?? Number.MAX_SAFE_INTEGER;
    let pageToken = "";
    do {
      const request = create(ListSessionsRequestSchema, {
        statuses: statusFilter(options.status ?? []),
        workflow: options.workflow ?? "",
        pageSize: Math.min(left, 100),
        pageToken,
        filter: listFilter(options),
      });
      const page = await this.core.call(SessionService.method.listSessions, request, { signal: options.signal });
      for (const session of page.sessions) {
        if (left-- <= 0) return;
        yield sessionInfo(session);
      }
      pageToken = page.nextPageToken;
    } while (pageToken !== "" && left > 0);
  }

  setLabels(
    session: SessionName,
    labels: Readonly<Record<string, string | undefined>>,
    options: CallOptions = {},
  ): Promise<SessionInfo> {
    return setLabels(this.core, session, labels, options);
  }

  run<I, O>(workflow: Workflow<I, O>, input: I, options: RunHereOptions = {}): RunPromise<O> {
    const session = deferred<string>();
    return withStream(this.core, this.runHere(workflow, input, options, session.resolve), session.promise);
  }

  async *subscribe(session: SessionName, options: SubscribeOptions = {}): AsyncGenerator<StreamItem> {
    const { signal } = options;
    const call: CallOptions = signal === undefined ? {} : { signal };
    const sessionId = typeof session === "string" ? session : (await this.get(session, call)).sessionId;
    yield* subscribe(this.core, sessionId, options);
  }

  signal(session: SessionName, name: string, value: unknown, options?: SendSignalOptions): Promise<SignalReceipt> {
    return sendSignal(this.core, session, name, value, options);
  }

  approvals(session: SessionName, options?: CallOptions): Promise<ApprovalInfo[]> {
    return openApprovals(this.core, session, options);
  }

  approval(session: SessionName, stepKey: string, options?: CallOptions): Promise<ApprovalInfo> {
    return approvalAt(this.core, session, stepKey, options);
  }

  approve(approval: ApprovalRef, options?: DecideOptions): Promise<void> {
    return decideApproval(this.core, approval, "approved", options);
  }

  reject(approval: ApprovalRef, options?: DecideOptions): Promise<void> {
    return decideApproval(this.core, approval, "rejected", options);
  }

  query(session: SessionName, options?: QueryOptions): Promise<SessionView> {
    return querySession(this.core, session, options);
  }

  stateAt(session: SessionName, seq: number, options?: CallOptions): Promise<SessionState> {
    return stateAt(this.core, session, seq, options);
  }

  async fork<O = unknown>(session: SessionName, options?: ForkOptions): Promise<SessionHandle<O>> {
    const { sessionId, created } = await forkSession(this.core, session, options);
    return new Handle<O>(this, sessionId, created);
  }

  diff(a: SessionName, b: SessionName, options?: CallOptions): Promise<BranchDiff> {
    return diffSessions(this.core, a, b, options);
  }

  acceptDivergence(session: SessionName, options?: CallOptions): Promise<void> {
    return acceptDivergence(this.core, session, options);
  }

  runSession<I, O>(
    workflow: Workflow<I, O>,
    sessionId: string,
    options: RunHereOptions = {},
  ): Promise<SessionResult<O>> {
    const work = { request: create(StartSessionRequestSchema), options, sessionId, known: () => {} };
    const run = new HereRun<O>(
      this.core,
      { ...this.options, log: this.log },
      { ...work, workflow: workflow as Workflow, keySession: () => Promise.resolve(sessionId) },
    );
    return run.result();
  }

  budget(session: SessionName, options?: CallOptions): Promise<BudgetInfo[]> {
    return budgetsOf(this.core, session, options);
  }

  raiseBudget(sessionId: string, limits: BudgetLimits, options?: CallOptions): Promise<BudgetInfo> {
    return raiseBudget(this.core, sessionId, limits, options);
  }

  resolveStep(sessionId: string, stepKey: string, resolution: StepResolution, options?: CallOptions): Promise<void> {
    return resolveStep(this.core, sessionId, stepKey, resolution, options);
  }

  // ---- inside ----

  private async runHere<I, O>(
    workflow: Workflow<I, O>,
    input: I,
    options: RunHereOptions,
    known: (sessionId: string) => void,
  ): Promise<SessionResult<O>> {
    const run = new HereRun<O>(
      this.core,
      { ...this.options, log: this.log },
      {
        workflow: workflow as Workflow,
        request: await this.startRequest(workflow, input, options),
        options,
        keySession: () => this.keySession(workflow as Workflow, options),
        known,
      },
    );
    return run.result();
  }

  async check(session: SessionName, options: CheckOptions): Promise<CheckResult> {
    const sessionId = await idOf(session, () => this.get(session, options));
    return check(this.core, sessionId, { ...options, hooks: this.options.hooks });
  }

  /** @internal */
  async *events(
    sessionId: string,
    options: { fromSeq?: number; live?: boolean; signal?: AbortSignal },
  ): AsyncGenerator<EventInfo> {
    const request = create(SubscribeSessionRequestSchema, {
      session: refOf(sessionId),
      fromSeq: BigInt(options.fromSeq ?? 1),
      untilCaughtUp: options.live === false,
    });
    yield* eventInfo(this.core.stream(SessionService.method.subscribeSession, request, options.signal));
  }

  private async startRequest<I>(workflow: Workflow<I> | NamedWorkflow, input: I, options: StartOptions) {
    if ("checkInput" in workflow) await workflow.checkInput(input);
    const request = create(StartSessionRequestSchema, {
      workflow: workflow.name,
      version: workflow.version ?? "",
      key: options.key ?? "",
      input: valuePayload(this.core.codec.encode(input, { kind: "input", name: workflow.name })),
      inputDigest: canonicalDigest(input),
      ifEnded: options.ifEnded === "restart" ? IfEnded.RESTART : IfEnded.RETURN,
      dedupeId: crypto.getRandomValues(new Uint8Array(16)),
      labels: { ...options.labels },
      timeoutMs: BigInt(Math.ceil(options.timeoutMs ?? 0)),
    });
    if (options.budget !== undefined) request.budget = storedLimits(options.budget);
    return this.core.seal(request);
  }

  private async keySession(workflow: Workflow, options: StartOptions): Promise<string> {
    if (options.key === undefined)
      throw new CellaflowError("lease_held", "a new session is held by another worker", "try again");
    return (await this.get({ workflow: workflow.name, key: options.key })).sessionId;
  }
}

class Handle<O> implements SessionHandle<O> {
  constructor(
    private readonly client: EngineClient,
    readonly sessionId: string,
    readonly created: boolean,
  ) {}

  get(options: CallOptions = {}): Promise<SessionInfo> {
    return this.client.get(this.sessionId, options);
  }

  result(options: ResultOptions = {}): Promise<SessionResult<O>> {
    return this.client.result<O>(this.sessionId, { waitMs: Number.MAX_SAFE_INTEGER, ...options });
  }

  events(options: { fromSeq?: number; live?: boolean; signal?: AbortSignal } = {}): AsyncIterable<EventInfo> {
    return this.client.events(this.sessionId, options);
  }
}
