/**
 * A client: starts sessions, looks at them, waits for them, and runs them in its own process.
 *
 * Owns: the calls of programs that are no workers. Never: takes a live lease from anybody.
 */
import { create } from "@bufbuild/protobuf";
import { CellaflowError } from "../errors.js";
import type { StepError } from "../failure.js";
import { EngineService, IfEnded, StartSessionRequestSchema } from "../gen/cellaflow/v1/engine_pb.js";
import {
  AwaitSessionRequestSchema,
  GetSessionRequestSchema,
  ListSessionsRequestSchema,
  SessionService,
  SubscribeSessionRequestSchema,
} from "../gen/cellaflow/v1/session_pb.js";
import { connectionOf } from "../internal/connection.js";
import { host, quietLogger, type RunOptions, redaction } from "../internal/hosting.js";
import { sealerOf } from "../internal/sealing.js";
import { type Logger, stderrLogger } from "../runtime/observer.js";
import { payloadValue, stepErrorOf, valuePayload } from "../runtime/payloads.js";
import type { RunEnd } from "../runtime/run-types.js";
import { deferred } from "../runtime/step-promise.js";
import type { Workflow } from "../runtime/workflow.js";
import type { Binding } from "../transport/channel.js";
import type { ConnectionOptions } from "../transport/lookup.js";
import { canonicalDigest } from "../values/canonical.js";
import { type PayloadCodec, payloadCodec } from "../values/hooks.js";
import { CALL_MS_MAX, type CallOptions, ClientCore, refOf, retried, type SessionName } from "./core.js";
import { Deadline, handedOver } from "./deadline.js";
import { type EventInfo, eventInfo } from "./events.js";
import { type RunPromise, withStream } from "./run-stream.js";
import { type SessionInfo, type SessionStatus, sessionInfo, statusFilter } from "./session.js";
import { type StreamItem, type SubscribeOptions, subscribe } from "./subscribe.js";

/** Longest wait of one call, in ms (the engine's limit). */
const AWAIT_MS_MAX = 60_000;
const RUN_WAIT_MS_DEFAULT = 60_000;

/** What a client is made of. */
export interface ClientOptions extends RunOptions {
  /** Where the engine is. Default: looked up. */
  connection?: ConnectionOptions;
}

/** How a session is started. */
export interface StartOptions extends CallOptions {
  /** Names the session: using it again returns that session. At most 512 bytes. Default: always a new session. */
  key?: string;
  /** What happens if the key's session has ended. Default: "return" it with its result. */
  ifEnded?: "return" | "restart";
}

/** How a session is run in this process. */
export interface RunHereOptions extends StartOptions {
  /** How long another worker's run of the session is followed before `runningElsewhere`, in ms. Default: 60,000. */
  waitMs?: number;
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

/** Which sessions are listed. */
export interface ListOptions extends CallOptions {
  /** Only these states. Default: all. */
  status?: readonly SessionStatus[];
  /** Only this workflow. Default: all. */
  workflow?: string;
  /** At most so many. Default: all. */
  limit?: number;
}

/** How a session stands. */
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
export interface Client {
  /**
   * Starts a session for some worker to run; returns the key's session if there is one.
   *
   * @throws CellaflowError `key_conflict` when the key's session has another input
   */
  start<I, O>(workflow: Workflow<I, O>, input: I, options?: StartOptions): Promise<SessionHandle<O>>;
  /** Returns a handle of a session. No call is made. */
  attach<O = unknown>(sessionId: string): SessionHandle<O>;
  /** Returns what a session is, by id or by workflow and key. @throws CellaflowError `session_not_found` */
  get(session: SessionName, options?: CallOptions): Promise<SessionInfo>;
  /** Returns how a session stands; waits up to `waitMs` (default 0) for it to end, pause or wait. */
  result<O = unknown>(
    sessionId: string,
    options?: { waitMs?: number; signal?: AbortSignal },
  ): Promise<SessionResult<O>>;
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
}

/** One session. */
export interface SessionHandle<O = unknown> {
  readonly sessionId: string;
  /** False if the key named a session that was there already; true also when it was not started by this handle. */
  readonly created: boolean;
  get(options?: CallOptions): Promise<SessionInfo>;
  /** Waits for the end: @see Client.result. Default: as long as it takes. */
  result(options?: { waitMs?: number; signal?: AbortSignal }): Promise<SessionResult<O>>;
  /** The events of the session, oldest first, then live ones until it ends. */
  events(options?: { fromSeq?: number; live?: boolean; signal?: AbortSignal }): AsyncIterable<EventInfo>;
}

/** Creates a client. @throws CellaflowError `no_connection`, `invalid_connection` */
export function createClient(options: ClientOptions = {}): Client {
  return new EngineClient(options);
}

class EngineClient implements Client {
  private readonly core: ClientCore;
  private readonly log: Logger;

  constructor(private readonly options: ClientOptions) {
    const codec = payloadCodec(redaction(options.hooks));
    this.core = new ClientCore(connectionOf(options.connection), codec, sealerOf(options.hooks));
    this.log = options.log ?? quietLogger(stderrLogger);
  }

  async start<I, O>(workflow: Workflow<I, O>, input: I, options: StartOptions = {}): Promise<SessionHandle<O>> {
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

  async result<O = unknown>(
    sessionId: string,
    options: { waitMs?: number; signal?: AbortSignal } = {},
  ): Promise<SessionResult<O>> {
    const until = performance.now() + (options.waitMs ?? 0);
    for (;;) {
      const { result } = await this.await<O>(sessionId, until - performance.now(), false, options.signal);
      if (result.status !== "runningElsewhere" || performance.now() >= until) return result;
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
      });
      const page = await this.core.call(SessionService.method.listSessions, request, { signal: options.signal });
      for (const session of page.sessions) {
        if (left-- <= 0) return;
        yield sessionInfo(session);
      }
      pageToken = page.nextPageToken;
    } while (pageToken !== "" && left > 0);
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

  private async runHere<I, O>(
    workflow: Workflow<I, O>,
    input: I,
    options: RunHereOptions,
    known: (sessionId: string) => void,
  ): Promise<SessionResult<O>> {
    const { signal } = options;
    const deadline = new Deadline(options.deadlineMs, options.handOverMs);
    const request = await this.startRequest(workflow, input, options);
    const until = performance.now() + Math.min(options.waitMs ?? RUN_WAIT_MS_DEFAULT, deadline.leftMs);
    const bind = (): Promise<Binding> => this.core.shared.channel.start(request, signal);
    let told = false;
    for (;;) {
      const binding = await leased(() => retried(bind, signal));
      if (binding !== undefined) {
        const { assigned, link } = binding;
        known(assigned.session?.sessionId ?? "");
        if (link === undefined) {
          const settled = this.settled<O>(assigned);
          if (settled !== undefined) return settled;
        } else {
          checkVersion(workflow, assigned.session?.version, link.release.bind(link), link.close.bind(link));
          const end = await this.hosted(workflow as Workflow, binding, deadline, signal);
          if (deadline.handedOver(end)) return handedOver(link.sessionId);
          const result = await this.resultOf<O>(link.sessionId, end, signal);
          if (result !== undefined) return result;
        }
      }
      const sessionId = binding?.assigned.session?.sessionId ?? (await this.keySession(workflow, options));
      known(sessionId);
      if (!told && performance.now() < until) {
        // After a kill -9 this lasts as long as a lease: without a word it would look like a hang.
        this.log("warn", "another run holds this session: waiting for its end, or its lease's", { sessionId });
        told = true;
      }
      const followed = await this.await<O>(sessionId, until - performance.now(), true, signal);
      if (followed.result.status !== "runningElsewhere" || performance.now() >= until) return followed.result;
    }
  }

  // ---- inside ----

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

  private async startRequest<I>(workflow: Workflow<I>, input: I, options: StartOptions) {
    await workflow.checkInput(input);
    const request = create(StartSessionRequestSchema, {
      workflow: workflow.name,
      version: workflow.version,
      key: options.key ?? "",
      input: valuePayload(this.core.codec.encode(input, { kind: "input", name: workflow.name })),
      inputDigest: canonicalDigest(input),
      ifEnded: options.ifEnded === "restart" ? IfEnded.RESTART : IfEnded.RETURN,
      dedupeId: crypto.getRandomValues(new Uint8Array(16)),
    });
    return this.core.seal(request);
  }

  private async hosted(
    workflow: Workflow,
    { assigned, link }: Binding,
    deadline: Deadline,
    signal: AbortSignal | undefined,
  ): Promise<RunEnd> {
    if (link === undefined) throw new CellaflowError("engine_error", "no lease was granted", "try again");
    let stop = (): void => {};
    const runOptions = { ...this.options, log: this.log };
    const end = await host(this.core.shared.channel, link, assigned, workflow, runOptions, (run) => {
      stop = () => void run.suspend("shutdown", 30_000);
      signal?.addEventListener("abort", stop, { once: true });
      if (signal?.aborted) stop();
      deadline.watch(run);
    });
    signal?.removeEventListener("abort", stop);
    deadline.unwatch();
    return end;
  }

  private async resultOf<O>(
    sessionId: string,
    end: RunEnd,
    signal: AbortSignal | undefined,
  ): Promise<SessionResult<O> | undefined> {
    if (end.kind === "completed") return { status: "completed", sessionId, output: end.output as O };
    if (end.kind === "failed") return { status: "failed", sessionId, failure: end.failure };
    signal?.throwIfAborted();
    if (end.kind === "suspended" && end.why === "unable" && end.error !== undefined) throw end.error;
    const { result } = await this.await<O>(sessionId, 0, false, signal);
    if (result.status === "paused" && end.kind === "suspended" && end.error !== undefined) {
      return { ...result, reason: end.error.message };
    }
    return result.status === "runningElsewhere" ? undefined : result;
  }

  private settled<O>(binding: Binding["assigned"]): SessionResult<O> | undefined {
    return settledResult<O>(this.core.open(binding), this.core.codec);
  }

  private async keySession(workflow: Workflow<never, unknown> | Workflow, options: StartOptions): Promise<string> {
    if (options.key === undefined)
      throw new CellaflowError("lease_held", "a new session is held by another worker", "try again");
    return (await this.get({ workflow: workflow.name, key: options.key })).sessionId;
  }

  private async await<O>(
    sessionId: string,
    waitMs: number,
    untilUnleased: boolean,
    signal: AbortSignal | undefined,
  ): Promise<{ result: SessionResult<O>; leased: boolean }> {
    const wait = Math.max(0, Math.min(AWAIT_MS_MAX, Math.ceil(waitMs)));
    const request = create(AwaitSessionRequestSchema, {
      session: refOf(sessionId),
      waitMs: BigInt(wait),
      untilUnleased,
    });
    const timeoutMs = CALL_MS_MAX + wait;
    const response = await this.core.call(SessionService.method.awaitSession, request, { timeoutMs, signal });
    const result = settledResult<O>(this.core.open(response), this.core.codec);
    const reason = response.leased ? "another worker runs it" : "no worker runs it";
    return { result: result ?? { status: "runningElsewhere", sessionId, reason }, leased: response.leased };
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

  result(options: { waitMs?: number; signal?: AbortSignal } = {}): Promise<SessionResult<O>> {
    return this.client.result<O>(this.sessionId, { waitMs: Number.MAX_SAFE_INTEGER, ...options });
  }

  events(options: { fromSeq?: number; live?: boolean; signal?: AbortSignal } = {}): AsyncIterable<EventInfo> {
    return this.client.events(this.sessionId, options);
  }
}

/** What is known of a session that does not run. */
function settledResult<O>(
  from: Pick<Binding["assigned"], "session" | "output" | "failure">,
  codec: PayloadCodec,
): SessionResult<O> | undefined {
  const { sessionId, status, reason } = sessionInfo(from.session);
  switch (status) {
    case "completed":
      return { status, sessionId, output: payloadValue(from.output, codec) as O };
    case "failed":
      return { status, sessionId, failure: stepErrorOf(from.failure) };
    case "cancelled":
      return { status, sessionId };
    case "waiting":
    case "paused":
      return { status, sessionId, reason };
    case "pending":
    case "running":
      return undefined;
  }
}

/** The engine refuses another version itself; an engine that does not must not make us run the wrong code. */
function checkVersion(
  workflow: { name: string; version: string },
  pinned: string | undefined,
  release: (why: "unable") => Promise<boolean>,
  close: () => void,
): void {
  if (pinned === undefined || pinned === workflow.version) return;
  void release("unable").then(close);
  throw new CellaflowError(
    "version_mismatch",
    `the session runs version "${pinned}" of workflow "${workflow.name}", not "${workflow.version}"`,
    "run it with that version's code, or start another session",
  );
}

/** Undefined: another worker holds the lease. */
async function leased(bind: () => Promise<Binding>): Promise<Binding | undefined> {
  try {
    return await bind();
  } catch (error) {
    if (error instanceof CellaflowError && error.code === "lease_held") return undefined;
    throw error;
  }
}
