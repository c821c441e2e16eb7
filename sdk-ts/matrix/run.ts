/**
 * One run of an example: started, hit at its point, helped by its outside actors, followed until every session of it
 * has ended.
 *
 * Invariant R1: nothing that the engine, the workers or the example do makes this throw: it is the run's problem.
 */
import { setTimeout as delay } from "node:timers/promises";
import { PauseReason, type Payload, SessionStatus } from "#sdk/gen/cellaflow/v1/common_pb.js";
import type { Event } from "#sdk/gen/cellaflow/v1/event_pb.js";
import { OperatorService } from "#sdk/gen/cellaflow/v1/operator_pb.js";
import { valuePayload } from "#sdk/runtime/payloads.js";
import { Joiner } from "#sdk/transport/pieces.js";
import { encodeValue } from "#sdk/values/codec.js";
import type { Crew } from "./crew.js";
import type { MatrixRun, MatrixWorld, SeenSession } from "./example.js";
import type { AnyExample } from "./examples.js";
import { type Final, finalOf } from "./final.js";
import { type CommitLine, lostAcks, unknownsOf } from "./judge.js";
import { type Lane, TIMES_MS } from "./lane.js";
import type { Hit, Planned } from "./points.js";
import { type Branch, Tree } from "./tree.js";

/** How often a run is looked at while nothing happens, in ms. */
const LOOK_MS = 60;
/** How often outside actors are called for a session in which nothing happens, in ms. */
const OUTSIDE_MS = 200;
/** How long nothing has happened in a session before its outside actors are called: it gives its lease back sooner. */
const QUIET_MS = 80;
/** How long a frozen worker stays so when nobody takes its sessions over, in ms. */
const FROZEN_MS_MAX = 2 * TIMES_MS.lease_ttl;
/** How long a worker that goes on gets to do what it must not, in ms. */
const ZOMBIE_MS = 300;
/** How long a worker has to hit itself before it is done from outside, in ms. */
const ITSELF_MS = 80;
/** How often the server of an effect is asked whether it was made, and for how long, in ms. */
const MADE_LOOK_MS = 5;
const MADE_MS_MAX = 5_000;
/** How often the workers of one run are started. */
const STARTS_MAX = 12;

/** What a run is given. */
export interface Setting {
  example: AnyExample;
  world: MatrixWorld;
  lane: Lane;
  crew: Crew;
  key: string;
  /** Absent: nothing is hit. */
  planned: Planned | undefined;
  /** How long it may take, what its hit costs included, in ms. */
  timeoutMs: number;
  /**
   * Called once a session of the run exists. Where the point is in the middle of an effect, it returns what says whether
   * the effect was made.
   */
  onSession(label: string, sessionId: string): (() => Promise<boolean>) | undefined;
}

/** What became of a run. */
export interface Outcome {
  example: AnyExample;
  key: string;
  planned: Planned | undefined;
  /** Whether its point came and its target was hit. */
  hit: boolean;
  tree: Tree;
  /** By label. */
  finals: ReadonlyMap<string, Final>;
  /** Attempts of guarded steps that were reported as unknown. */
  unknown: number;
  /** Guarded attempts whose unknown outcome nobody was told. */
  unreported: readonly string[];
  lost: readonly string[];
  /** Why it did not come to its end; empty: it did. */
  stuck: string;
}

/** Performs one run. */
export async function perform(setting: Setting): Promise<Outcome> {
  const running = new Running(setting);
  let stuck = "";
  try {
    await running.toTheEnd();
  } catch (error) {
    stuck = running.describe(error);
  }
  return running.outcome(stuck);
}

interface Visit {
  atMs: number;
  seq: number;
}

class Running {
  private readonly tree: Tree;
  private readonly startedMs = Date.now();
  /** The step that each session is paused for because its effect is unknown; by label. */
  private readonly unknown = new Map<string, string>();
  /** Why each session is paused; by label. */
  private readonly paused = new Map<string, PauseReason>();
  private readonly visits = new Map<string, Visit>();
  /** When the last event of each session was seen; by label. */
  private readonly eventMs = new Map<string, number>();
  /** Nothing is hit any more: the next run must find what it needs. */
  private over = false;
  /** Whether its point was seen. */
  private reached = false;
  private hitMs = 0;
  private restarting: Promise<void> = Promise.resolve();
  private frozenMs = 0;
  private takenOver = false;
  private proceededMs = 0;
  private wake: () => void = () => undefined;
  private readonly startsBefore: number;
  private startFailed: unknown;
  /** Says whether the effect was made in the middle of which the run is hit. */
  private made: (() => Promise<boolean>) | undefined;

  constructor(private readonly setting: Setting) {
    this.startsBefore = setting.crew.started;
    setting.crew.strike.clear();
    this.tree = new Tree(setting.lane.wire, (branch, event) => this.see(branch, event));
  }

  async toTheEnd(): Promise<void> {
    this.start();
    while (!this.tree.ended) {
      await this.look();
      if (this.startFailed !== undefined) throw this.startFailed;
      const { timeoutMs } = this.setting;
      if (Date.now() - this.startedMs > timeoutMs) throw new Error(`no end after ${timeoutMs / 1_000} s`);
      await Promise.race([delay(LOOK_MS), new Promise<void>((resolve) => (this.wake = resolve))]);
    }
    // At the last event: whatever was hit there must not be missing in the next run.
    if (this.reached && this.byItself) this.strike();
    await this.restarting;
    const wanted = (this.setting.example.ends ?? "completed").toUpperCase();
    const ended = SessionStatus[this.tree.root.status];
    if (ended !== wanted) throw new Error(`the first session ended as ${ended}, not ${wanted}`);
  }

  describe(error: unknown): string {
    const sessions = [...this.tree.branches.values()].map((branch) => {
      const last = branch.seen.at(-1);
      const paused = this.paused.get(branch.label);
      const why = paused === undefined ? "" : `, paused: ${PauseReason[paused]}`;
      return `  ${branch.label}: ${SessionStatus[branch.status]}${why}, last event ${last?.seq} ${last?.kind} ${last?.key}`;
    });
    return [String(error), ...sessions, this.setting.crew.tail()].join("\n");
  }

  async outcome(stuck: string): Promise<Outcome> {
    const { example, key, planned, crew } = this.setting;
    this.over = true;
    await this.restarting.catch(() => undefined);
    if (this.frozenMs > 0) {
      this.proceed();
      await delay(Math.max(0, this.proceededMs + ZOMBIE_MS - Date.now()));
      await crew.dismissFrozen();
    }
    // Whoever holds a session that does not end would hold up the next run.
    if (stuck !== "") await crew.kill();
    this.tree.stop();
    crew.strike.clear();
    const judged = await this.judged().catch((error: unknown) => ({ ...NOTHING, stuck: `not readable: ${error}` }));
    const problem = stuck === "" ? judged.stuck : stuck;
    return { example, key, planned, hit: this.hitMs > 0, tree: this.tree, ...judged, stuck: problem };
  }

  // ---- inside ----

  private start(): void {
    const { example, world, lane, crew, key } = this.setting;
    if ("program" in example) {
      this.tree.start(example.session(world, key));
    } else {
      this.tree.start({ workflow: example.workflow.name, key });
      const started = lane.client.start(example.workflow, example.input(world, key), { ...example.start, key });
      started.catch((error: unknown) => {
        this.startFailed = error;
      });
    }
    if (!crew.present) crew.start();
  }

  private see(branch: Branch, { body, seq }: Event): void {
    const { label } = branch;
    this.eventMs.set(label, Date.now());
    if (branch.seen.length === 1) {
      this.made ??= this.setting.onSession(label, branch.watch.sessionId);
      if (label === this.setting.planned?.point.session) this.arm(branch.watch.sessionId);
    }
    if (body.case === "sessionPaused") {
      this.paused.set(label, body.value.reason);
      if (body.value.reason === PauseReason.EFFECT_UNKNOWN) this.unknown.set(label, body.value.stepKey);
    }
    if (body.case === "sessionResumed") {
      this.paused.delete(label);
      this.unknown.delete(label);
    }
    if (body.case === "leaseGranted" && this.frozenMs > 0) this.takenOver = true;
    const point = this.setting.planned?.point;
    if (point !== undefined && this.hitMs === 0 && point.session === label && Number(seq) === point.place.seq) {
      this.reached = true;
      void this.whenItCounts(this.byItself ? ITSELF_MS : point.place.waitMs).then(() => this.strike());
    }
    this.wake();
  }

  /** Waits for the moment to hit: after a time, or when an effect was made whose answer is on its way. */
  private async whenItCounts(waitMs: number): Promise<void> {
    const { made } = this;
    if (made === undefined) return void (await delay(waitMs));
    const untilMs = Date.now() + MADE_MS_MAX;
    while (!this.over && Date.now() < untilMs && !(await made().catch(() => false))) await delay(MADE_LOOK_MS);
  }

  /** Whether a worker hits itself, exactly at its event. An engine is always hit from outside, as soon as it is seen. */
  private get byItself(): boolean {
    const { planned, example } = this.setting;
    return planned?.point.place.waitMs === 0 && planned.hit !== "engine" && "workflows" in example;
  }

  private arm(sessionId: string): void {
    const { planned, crew, lane } = this.setting;
    if (planned === undefined || !this.byItself) return;
    const enginePid = planned.hit === "both" ? lane.engine.pid : 0;
    const signal = planned.hit === "freeze" ? "SIGSTOP" : "SIGKILL";
    crew.strike.arm({ sessionId, seq: planned.point.place.seq, enginePid, signal });
  }

  /** Hits, or completes what a worker did to itself. */
  private strike(): void {
    if (this.hitMs > 0 || this.over) return;
    this.setting.crew.strike.take();
    this.hitMs = Date.now();
    this.restarting = this.hit(this.setting.planned?.hit ?? "worker");
    this.restarting.catch((error: unknown) => {
      this.startFailed ??= error;
    });
  }

  private async hit(hit: Hit): Promise<void> {
    const { crew, lane } = this.setting;
    if (hit === "freeze") {
      if (!crew.freeze()) return;
      this.frozenMs = Date.now();
      crew.start();
      return;
    }
    // Both signals are sent before anything is waited for.
    if (hit !== "worker") lane.engine.kill();
    if (hit !== "engine") await crew.kill();
    if (hit !== "worker") await lane.engine.restart();
    if (hit !== "engine") crew.start();
  }

  private async look(): Promise<void> {
    const { crew, lane } = this.setting;
    if (crew.strike.taken) this.strike();
    await this.restarting;
    if (!lane.engine.running) {
      const tail = lane.engine.tail();
      await lane.engine.restart();
      throw new Error(`the engine ended by itself:\n${tail}`);
    }
    if (this.frozenMs > 0 && this.mayProceed()) this.proceed();
    if (!crew.present) {
      // A program ends when its session waits or pauses; a worker never should.
      if (crew.started - this.startsBefore >= STARTS_MAX)
        throw new Error(`the workers were started ${STARTS_MAX} times`);
      crew.start();
    }
    for (const branch of this.tree.branches.values()) {
      if (branch.status === SessionStatus.UNSPECIFIED && branch.watch.sessionId !== "") await this.visit(branch);
    }
  }

  /** At every other point the frozen worker sleeps until all is over without it, elsewhere until it was replaced. */
  private mayProceed(): boolean {
    const late = (this.setting.planned?.point.place.seq ?? 0) % 2 === 1;
    const replaced = this.takenOver && !late;
    return replaced || (!this.takenOver && Date.now() - this.frozenMs > FROZEN_MS_MAX);
  }

  private proceed(): void {
    if (this.proceededMs > 0) return;
    this.proceededMs = Date.now();
    this.setting.crew.proceed();
  }

  /** Does for a session what programs and people outside would. */
  private async visit(branch: Branch): Promise<void> {
    const nowMs = Date.now();
    const last = this.visits.get(branch.label);
    const { seq } = branch.watch;
    if (nowMs - (this.eventMs.get(branch.label) ?? nowMs) < QUIET_MS) return;
    if (last !== undefined && last.seq === seq && nowMs - last.atMs < OUTSIDE_MS) return;
    this.visits.set(branch.label, { atMs: nowMs, seq });
    const stepKey = this.unknown.get(branch.label);
    if (stepKey !== undefined) return this.resolve(branch, stepKey);
    const { outside, diverges = false } = this.setting.example;
    if (this.paused.get(branch.label) === PauseReason.NONDETERMINISM && !diverges) {
      throw new Error("the run was not deterministic");
    }
    if (outside === undefined) return;
    try {
      const session: SeenSession = {
        info: await this.setting.lane.client.get(branch.watch.sessionId),
        events: branch.seen,
      };
      for (const added of (await outside(session, this.run())) ?? []) this.tree.add(added);
    } catch {
      // It is tried again: the engine may be down, or it is too early.
      this.visits.delete(branch.label);
    }
  }

  /** Asks the server that made the effect, and tells the engine. */
  private async resolve(branch: Branch, stepKey: string): Promise<void> {
    const { truth, name } = this.setting.example;
    if (truth === undefined) throw new Error(`"${stepKey}" is unknown; export truth() from the matrix.ts of ${name}`);
    const { sessionId } = branch.watch;
    try {
      const { rootId } = await this.setting.lane.client.get(sessionId);
      const found = await truth({ sessionId, rootId, stepKey }, this.run());
      const resolution =
        found === "notApplied"
          ? ({ case: "notApplied", value: true } as const)
          : ({ case: "output", value: output(found.applied) } as const);
      await this.setting.lane.wire.unary(OperatorService.method.resolveStep, {
        sessionId,
        stepKey,
        resolution,
        resume: true,
      });
    } catch {
      // Not due yet, resolved already, or the engine is down: the ledger says which, the next visit looks again.
    }
  }

  private run(): MatrixRun {
    const { lane, world, key } = this.setting;
    return { client: lane.client, world, key, sessionId: this.tree.root.watch.sessionId };
  }

  private async judged(): Promise<Judged> {
    const lines = this.setting.crew.acknowledged() as CommitLine[];
    const finals = new Map<string, Final>();
    const lost: string[] = [];
    const unreported: string[] = [];
    let unknown = 0;
    for (const { label, watch } of this.tree.branches.values()) {
      if (watch.sessionId === "") continue;
      const events = await this.ledgerOf(watch.sessionId);
      finals.set(label, finalOf(events));
      lost.push(...lostAcks(watch.sessionId, events, lines));
      const unknowns = unknownsOf(events);
      unknown += unknowns.reported;
      unreported.push(...unknowns.unreported.map((text) => `${label}: ${text}`));
    }
    return { finals, lost, unknown, unreported, stuck: "" };
  }

  private async ledgerOf(sessionId: string): Promise<Event[]> {
    const events: Event[] = [];
    const joiner = new Joiner();
    const request = {
      session: { by: { case: "sessionId" as const, value: sessionId } },
      fromSeq: 1n,
      untilCaughtUp: true,
    };
    for await (const { body } of this.setting.lane.wire.subscribe(request, new AbortController().signal)) {
      if (body.case === "piece") joiner.take(body.value);
      else if (body.case === "event") events.push(joiner.join(body.value));
    }
    return events;
  }
}

type Judged = Pick<Outcome, "finals" | "lost" | "unknown" | "unreported" | "stuck">;

const NOTHING: Judged = { finals: new Map(), lost: [], unknown: 0, unreported: [], stuck: "" };

function output(value: unknown): Payload {
  return valuePayload(encodeValue(value));
}
