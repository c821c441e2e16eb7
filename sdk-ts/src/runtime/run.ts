/**
 * One run of a workflow: from the lease to the end of the session, or until the run has to be abandoned.
 *
 * Owns: the run's requests, the delivery of outcomes, its end. Never: talks to the engine itself (`appends.ts`,
 * `journal.ts`), tells who watches (`telling.ts`), compares requests with the ledger (`divergence.ts`), runs a step's
 * function (`step.ts`, `guard.ts`, `call.ts`, `zone.ts`).
 *
 * Invariants:
 * - U1 outcomes reach workflow code through `order.ts` alone; nothing else settles a request.
 * - U2 an abandoned run (paused, fenced, shutting down) settles nothing any more and throws nothing into workflow code.
 * - U3 every append goes through `appends.ts`; a run that is over appends nothing.
 * - U4 a run that cannot be what the ledger recorded pauses its session and shows both sides.
 * - U5 a run that only waits is given back (`parking.ts`): it ends here, and is replayed when there is an outcome.
 */
import { create } from "@bufbuild/protobuf";
import { ContextUses } from "../context/uses.js";
import { CellaflowError, type NonDeterminismError } from "../errors.js";
import { PauseReason, type Refusal } from "../gen/cellaflow/v1/common_pb.js";
import { type Event, type SessionPaused, SessionPausedSchema } from "../gen/cellaflow/v1/event_pb.js";
import { misuse } from "../misuse.js";
import { Activity } from "./activity.js";
import { type AppendingRun, Appends, refusalError } from "./appends.js";
import { Budgets } from "./budget.js";
import { CANCELLATION_KEY, Cancellation, type CancellingRun } from "./cancel.js";
import { Children } from "./children.js";
import { Conversation } from "./conversation.js";
import { noteDeltas, textsOfDelta } from "./deltas.js";
import { InputDigest } from "./digest.js";
import { Divergence, type DivergingRun } from "./divergence.js";
import { Ending, type EndingRun } from "./ending.js";
import { Given } from "./given.js";
import { History } from "./history.js";
import { checkInside } from "./inside.js";
import type { AfterMark } from "./journal.js";
import type { Repair } from "./mismatch.js";
import { type Delivery, Order, type OrderTarget } from "./order.js";
import { Parking, type ParkingRun } from "./parking.js";
import type { Request } from "./request.js";
import { Resources } from "./resources.js";
import type { AppendAsk, RunEnd, RunSettings } from "./run-types.js";
import { StateStore } from "./state.js";
import type { StepPromise, Unobserved } from "./step-promise.js";
import { Telling } from "./telling.js";
import { TextRegistry } from "./texts.js";

/** How long begun work may go on after a pause, in ms. */
const PAUSE_GRACE_MS = 30_000;

type Phase = "running" | "ending" | "suspending" | "over";

export class Run implements OrderTarget<Event>, EndingRun, ParkingRun, CancellingRun, DivergingRun, AppendingRun {
  readonly history = new History();
  readonly texts = new TextRegistry();
  readonly conversation = new Conversation(this.texts);
  readonly state: StateStore;
  readonly resources: Resources;
  readonly activity: Activity;
  readonly inputDigest: InputDigest;
  readonly parking: Parking;
  readonly budgets: Budgets;
  readonly contexts = new ContextUses();
  readonly unobserved: Unobserved = new Map();
  readonly children = new Children(this);
  readonly cancellation = new Cancellation(this);
  readonly ending = new Ending(this);
  private readonly appends = new Appends(this);
  /** Settles when the run is over for this process. */
  readonly ended: Promise<RunEnd>;
  /** Ledger time of the last outcome delivered, in ms since the Unix epoch. */
  nowMs = 0;
  /** What the session began with. */
  readonly given = new Given(this);
  readonly telling: Telling;
  readonly divergence: Divergence;

  private readonly order = new Order<Event>(this);
  private readonly requests = new Map<string, Request>();
  /** Keys of requests that were dropped: their outcomes are passed over. */
  private readonly dropped = new Set<string>();
  private phase: Phase = "running";
  private mark: AfterMark = { seq: 0, requests: 0 };
  private requestCount = 0;
  private replayToSeq = 0;
  private lastRecordedOutcome = 0;
  private settleEnd!: (end: RunEnd) => void;

  constructor(readonly settings: RunSettings) {
    this.state = new StateStore(settings.codec, (call) => this.check(call));
    this.resources = new Resources(settings.log, settings.standIn);
    this.inputDigest = new InputDigest(settings.digestSalt);
    this.activity = new Activity(settings.limits.openMax);
    this.budgets = new Budgets(this);
    this.parking = new Parking(this, settings.suspendLingerMs);
    this.telling = new Telling(settings);
    this.divergence = new Divergence(this);
    this.ended = new Promise((resolve) => {
      this.settleEnd = resolve;
    });
  }

  // ---- events of the engine ----

  /** First seq this run has not been sent; a lost connection goes on from there. */
  get firstUnknownSeq(): number {
    return this.order.firstUnknown;
  }

  /** Takes events of the ledger, in order. */
  noteEvents(events: readonly Event[]): void {
    for (const event of events) this.noteEvent(event);
  }

  /** Starts the workflow's code: every event up to `replayToSeq` was noted. */
  start(replayToSeq: number): void {
    this.replayToSeq = replayToSeq;
    for (const seq of this.history.droppedOutcomes()) this.order.skip(seq);
    this.lastRecordedOutcome = Math.min(this.lastRecordedOutcome, this.history.lastOutcome());
    this.history.seal();
    this.divergence.progress();
    if (this.lastRecordedOutcome === 0) this.noteReplayFinished();
    this.order.poke();
    this.settings.body.run(this, this.given.input).then(
      (output) => (this.cancellation.isRequested ? this.cancellation.codeEnded() : this.ending.returned(output)),
      (thrown: unknown) => (this.cancellation.isRequested ? this.cancellation.codeEnded() : this.ending.threw(thrown)),
    );
  }

  /** Another worker has the lease, or the session ended otherwise: everything stops at once. */
  fence(why: string): void {
    if (this.phase === "over") return;
    this.abortAll(new CellaflowError("fenced", why, "do nothing: the session goes on elsewhere"));
    this.over({ kind: "fenced" });
  }

  /** Gives the lease back as soon as begun work is committed, or after `graceMs`. */
  async suspend(why: "paused" | "shutdown" | "unable", graceMs: number, error?: CellaflowError): Promise<void> {
    if (this.phase === "over" || this.phase === "suspending") return;
    this.phase = "suspending";
    this.order.stop();
    const whole = await this.activity.idleWithin(graceMs);
    if (this.isOver) return;
    if (!whole) {
      this.abortAll(
        new CellaflowError("aborted", "the worker is shutting down", "stop; the step runs again elsewhere"),
      );
      await this.activity.idleWithin(Math.min(1_000, graceMs));
    }
    if (this.isOver) return;
    await this.settings.journal.release(why === "paused" ? "suspended" : why);
    this.over(error === undefined ? { kind: "suspended", why } : { kind: "suspended", why, error });
  }

  /** The session is paused. */
  suspendPaused(error?: CellaflowError): void {
    void this.suspend("paused", PAUSE_GRACE_MS, error);
  }

  // ---- a run that only waits ----

  get isParked(): boolean {
    const goesOn = this.phase === "running" && !this.ending.hasBegun;
    const endsAfterChildren = this.phase === "ending" && this.children.holdEnd;
    if (!(goesOn || endsAfterChildren) || !this.activity.isIdle || !this.order.isDrained) return false;
    for (const request of this.requests.values()) if (!request.parked) return false;
    return this.resources.pending === 0;
  }

  async park(): Promise<boolean> {
    const given = await this.settings.journal.release("waiting", this.order.deliveredTo);
    if (!given || this.isSuspended) return false;
    this.abortAll(new CellaflowError("suspended", "the session waits", "stop: it goes on from its events"));
    this.over({ kind: "suspended", why: "waiting" });
    return true;
  }

  // ---- requests of workflow code ----

  /** Refuses a ctx call from inside a step or zone, or after the end. */
  check(call: string): void {
    checkInside(this, call);
    if (this.ending.isClosed) throw misuse.ctxAfterEnd(call);
  }

  /** What a request that is made now has seen. */
  get after(): AfterMark {
    return this.mark;
  }

  /** True once nothing new may start: requests stay unsettled (U2). */
  get isSuspended(): boolean {
    return this.phase === "suspending" || this.phase === "over";
  }

  /** While outcomes of the ledger are still to be delivered. */
  get isReplaying(): boolean {
    return this.mark.seq < this.lastRecordedOutcome;
  }

  get isOver(): boolean {
    return this.phase === "over";
  }

  get isRunning(): boolean {
    return this.phase === "running";
  }

  /** Makes a request. */
  submit<T>(request: Request<T>): StepPromise<T> {
    const { spec } = request;
    if (this.cancellation.rejects(request as Request)) return request.promise.watch(new Map(), spec.key);
    this.requestCount += 1;
    this.divergence.progress();
    this.requests.set(spec.key, request as Request);
    const promise = request.promise.watch(this.unobserved, spec.key);
    const record = this.history.get(spec.key);
    if (record !== undefined) {
      this.history.noteRequested(record);
      if (!this.divergence.matches(record, spec)) return promise;
    }
    if (record?.outcome === undefined) request.begin(record);
    else if (!this.cancellation.passesOver(request as Request, record.outcome)) request.replay(record.outcome);
    this.parking.moved();
    this.order.poke();
    this.ending.offer();
    return promise;
  }

  /** Lets a request start something: at once, when there is room again, or never if the run is suspended. */
  whenStartable(start: () => void, request: Request): void {
    if (this.phase !== "running" || request.isCancelled || this.cancellation.holds(request)) return;
    const { journal } = this.settings;
    if (journal.full) journal.whenRoom(() => this.whenStartable(start, request));
    else if (journal.doubtful) journal.whenSure(() => this.whenStartable(start, request));
    else start();
  }

  /** Lets a part of begun work begin: at once unless this process stood still. */
  whenSure(start: () => void): void {
    if (this.phase === "over") return;
    const { journal } = this.settings;
    if (journal.doubtful) journal.whenSure(() => this.whenSure(start));
    else start();
  }

  /** Appends to the ledger. */
  append(after: AfterMark, ask: AppendAsk): void {
    if (this.phase !== "over") this.appends.append(after, ask);
  }

  noteOwn(seq: number, outcome: Delivery<Event> | undefined): boolean {
    return this.order.note(seq, outcome);
  }

  /** Pauses the session: the run is not what the ledger recorded. */
  nondeterministic(recorded: string, requested: string, stepKey: string, repair?: Repair): void {
    this.divergence.found(recorded, requested, stepKey, repair);
  }

  get awaited(): Delivery<Event> | undefined {
    const { head } = this.order;
    return this.phase === "running" && head !== undefined && head.seq <= this.lastRecordedOutcome ? head : undefined;
  }

  isAsked(key: string): boolean {
    return this.requests.has(key);
  }

  pauseDiverged(pause: SessionPaused, error: NonDeterminismError): void {
    if (this.phase !== "running" && this.phase !== "ending") return;
    const { sessionId } = this.settings.session;
    this.settings.log("error", error.message, { sessionId, stepKey: pause.stepKey });
    this.appendPause(pause);
    this.abortAll(error);
    this.suspendPaused(error);
  }

  // ---- order ----

  ready(delivery: Delivery<Event>): boolean {
    const request = this.requests.get(delivery.key);
    const recorded = delivery.seq <= this.replayToSeq;
    const open = !recorded || this.history.mayDeliver(delivery.seq, this.requestCount);
    const passes = delivery.key === CANCELLATION_KEY || this.dropped.has(delivery.key);
    if ((passes || request?.ready) && open) return true;
    this.divergence.watch();
    return false;
  }

  deliver(delivery: Delivery<Event>): void {
    const { key, seq, timeMs, event } = delivery;
    const request = this.requests.get(key);
    this.requests.delete(key);
    this.history.forgetOutcome(key);
    this.mark = { seq, requests: this.requestCount };
    this.nowMs = Math.max(this.nowMs, timeMs);
    this.divergence.progress();
    this.parking.moved();
    if (request === undefined) return this.deliverOther(key, seq);
    try {
      const texts = event === undefined ? request.deliverOwn(seq) : request.deliverEvent(event);
      const deltaTexts = event === undefined ? request.deltaTexts : textsOfDelta(event);
      if (texts.length + deltaTexts.length > 0) this.texts.record(seq, [...deltaTexts, ...texts]);
    } catch (error) {
      return this.giveUp(`outcome ${seq} ("${key}") cannot be read`, error);
    }
    this.telling.delivered(request, seq, seq <= this.replayToSeq);
    if (seq === this.lastRecordedOutcome) this.noteReplayFinished();
  }

  /** Looks again whether the next outcome may be delivered, and whether the end may be committed. */
  poke(): void {
    this.order.poke();
    this.ending.offer();
    this.cancellation.poke();
  }

  pending(): Iterable<Request> {
    return this.requests.values();
  }

  drop(request: Request): void {
    const { key } = request.spec;
    if (this.requests.get(key) === request) this.requests.delete(key);
    this.history.forgetOutcome(key);
    this.dropped.add(key);
    this.order.poke();
  }

  // ---- inside ----

  private noteEvent(event: Event): void {
    const seq = Number(event.seq);
    if (seq < this.order.firstUnknown) return;
    const { key, outcome } = this.history.add(event);
    const texts = noteDeltas(event, this.state, this.conversation);
    // An outcome's texts are counted together with its output's, when it is delivered.
    if (!outcome && texts.length > 0) this.texts.record(seq, texts);
    const body = event.body;
    this.budgets.count(seq, body);
    if (body.case === "sessionStarted") this.nowMs = Number(event.timeMs);
    this.given.note(event);
    this.children.note(event);
    const request = key === undefined ? undefined : this.requests.get(key);
    const cancelled = this.cancellation.note(event);
    if (cancelled) this.ending.cancelRequested();
    const delivered = cancelled ? CANCELLATION_KEY : outcome ? key : undefined;
    if (delivered !== undefined) {
      if (this.replayToSeq === 0) this.lastRecordedOutcome = seq;
      this.order.note(seq, { seq, timeMs: Number(event.timeMs), key: delivered, event });
    } else this.order.note(seq, undefined);
    request?.noted(event);
    if (ENDS.has(body.case)) this.ending.reached(event);
    else if (outcome) this.poke();
  }

  /** A request to cancel, or the outcome of a request that was dropped. */
  private deliverOther(key: string, seq: number): void {
    if (key === CANCELLATION_KEY) this.cancellation.deliver();
    else this.dropped.delete(key);
    if (seq === this.lastRecordedOutcome) this.noteReplayFinished();
  }

  /** This process cannot run the session: the lease is given back. */
  giveUp(problem: string, cause: unknown): void {
    const code = cause instanceof CellaflowError ? cause.code : "run_unable";
    const error =
      cause instanceof CellaflowError ? cause : new CellaflowError(code, problem, "see its cause", { cause });
    const { sessionId } = this.settings.session;
    this.settings.log("error", problem, { sessionId, code, error: String(cause) });
    void this.suspend("unable", 0, error);
  }

  private noteReplayFinished(): void {
    this.divergence.stop();
    this.telling.replayFinished();
  }

  // ---- the end ----

  get isHeld(): boolean {
    if (this.children.holdEnd) return true;
    for (const request of this.requests.values()) if (request.holdsEnd) return true;
    return false;
  }

  close(reason: CellaflowError): void {
    this.phase = "ending";
    for (const request of [...this.requests.values()]) {
      if (request.holdsEnd) continue;
      request.abort(reason);
      this.drop(request);
    }
    this.children.endAll(reason.message);
  }

  pauseUnknown(stepKey: string): void {
    this.appendPause(create(SessionPausedSchema, { reason: PauseReason.EFFECT_UNKNOWN, stepKey }));
    this.suspendPaused();
  }

  private appendPause(value: SessionPaused): void {
    this.append(this.mark, { op: { case: "sessionPaused", value }, bytes: 0, deltas: false, refused: ignoreRefusal });
  }

  endWithdrawn(): void {
    if (this.phase === "ending") this.phase = "running";
    this.cancellation.codeEnded();
  }

  endRefused(refusal: Refusal): void {
    if (refusal.code === "session_paused") this.suspendPaused();
    else this.giveUp("the engine refused the end of this run", refusalError(refusal));
  }

  endCancelled(op: AppendAsk["op"]): void {
    this.ending.cancelled(op);
  }

  appendEnd(ask: AppendAsk): void {
    this.append(this.mark, ask);
  }

  over(end: RunEnd): void {
    if (this.phase === "over") return;
    this.phase = "over";
    this.ending.stop();
    this.cancellation.stop();
    this.divergence.stop();
    this.parking.stop();
    this.order.stop();
    this.requests.clear();
    this.activity.close();
    this.settings.journal.close();
    void this.resources.dispose().then(() => this.settleEnd(end));
  }

  private abortAll(reason: CellaflowError): void {
    for (const request of this.requests.values()) request.abort(reason);
    this.activity.abortAll(reason);
  }
}

const ENDS: ReadonlySet<Event["body"]["case"]> = new Set([
  "sessionCompleted",
  "sessionFailed",
  "sessionContinued",
  "sessionCancelled",
]);

function ignoreRefusal(): void {}
