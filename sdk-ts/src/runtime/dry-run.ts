/**
 * Runs a workflow's code over a recorded ledger, without an engine and without starting anything: does it ask for what
 * was recorded?
 *
 * Owns: the verdict. Never: runs a step that the ledger has no outcome for, or writes anything.
 *
 * Invariants:
 * - D1 nothing starts: the journal of a dry run never has room.
 * - D2 the verdict is the one that a worker would come to: the same `Run` judges. It comes sooner in one case: code that
 *   does not ask for what the ledger has open (a wait, an effect, a zone) differs before it has begun anything else.
 * - D3 a verdict always comes, or an error that says why there is none.
 */
import { CellaflowError } from "../errors.js";
import type { Event } from "../gen/cellaflow/v1/event_pb.js";
import { redaction } from "../internal/hosting.js";
import { sealerOf } from "../internal/sealing.js";
import { type PayloadHooks, payloadCodec } from "../values/hooks.js";
import { bodyOf } from "./body.js";
import type { EngineLimits, Entry, Journal } from "./journal.js";
import { payloadFailure } from "./payloads.js";
import type { RequestSpec } from "./request.js";
import { Run } from "./run.js";
import type { SessionFacts } from "./run-types.js";
import type { Workflow } from "./workflow.js";

/** A session's ledger, as it was recorded. */
export interface Ledger {
  session: SessionFacts;
  /** Salt of the lineage: without it no input could be compared. */
  digestSalt: Uint8Array;
  /** All events with their payloads, from the first. */
  events: readonly Event[];
}

/** How a dry run is made. */
export interface DryRunOptions {
  /** Time in which code that stands still has to ask for what was recorded next, in ms. Default: 2,000. */
  stallMs?: number;
  /** The payload hooks of the recorded session. Default: none. */
  hooks?: PayloadHooks;
  /**
   * What `ctx.resource` does: "acquire" as in every replay, or "standIn": nothing is acquired, and there is no verdict on
   * code that uses a resource outside of steps. Default: "acquire".
   */
  resources?: "acquire" | "standIn";
}

/** What a dry run came to. */
export type DryRunResult =
  | {
      compatible: true;
      /** Outcomes that were delivered from the ledger. */
      outcomes: number;
      /** The code came to the recorded end. */
      ended: true;
    }
  | {
      compatible: true;
      outcomes: number;
      /** The ledger has no end. */
      ended: false;
      /** What the code would do next: steps it asks for, its end; empty: it goes on waiting. */
      next: readonly string[];
    }
  | {
      compatible: false;
      /** The first step that differs; empty: the end does. */
      stepKey: string;
      /** What the ledger has there. */
      recorded: string;
      /** What the code asked for. */
      requested: string;
    };

const STALL_MS_DEFAULT = 2_000;
/** How long code that was given all recorded outcomes may take to come to its end or to ask for more, in ms. */
const QUIET_MS = 100;

const LIMITS: EngineLimits = {
  leaseTtlMs: 15_000,
  guardAttemptMs: 30_000,
  guardGraceMs: 5_000,
  payloadBytesMax: 64 * 1_024 * 1_024,
  openMax: 64,
  replayStallMsMax: STALL_MS_DEFAULT,
  evidenceBytesMax: 1_024 * 1_024,
  stepAttemptMs: undefined,
  retry: { attemptsMax: 1, backoffInitialMs: 1, backoffMaxMs: 1, onExhausted: "fail" },
};

/** Runs a workflow's code over a ledger. */
export function dryRun(ledger: Ledger, workflow: Workflow, options: DryRunOptions = {}): Promise<DryRunResult> {
  return new DryRun(ledger, workflow, options).verdict();
}

class DryRun implements Journal {
  readonly full = true; // D1
  readonly doubtful = false;
  private readonly events: readonly Event[];
  private readonly run: Run;
  private readonly recordedEnd: Event["body"] | undefined;
  private outcomes = 0;
  private settle!: (result: DryRunResult) => void;
  private fail!: (error: CellaflowError) => void;
  private timer: NodeJS.Timeout | undefined;
  private movedMs = 0;
  private readonly stallMs: number;

  constructor(ledger: Ledger, workflow: Workflow, options: DryRunOptions) {
    const { hooks, stallMs = STALL_MS_DEFAULT, resources = "acquire" } = options;
    const sealer = sealerOf(hooks);
    this.stallMs = stallMs;
    const events = sealer?.open(ledger.events) ?? ledger.events;
    const last = events.at(-1)?.body;
    this.recordedEnd = last?.case === "sessionCompleted" || last?.case === "sessionFailed" ? last : undefined;
    // The run has to come to its end by itself.
    this.events = this.recordedEnd === undefined ? events : events.slice(0, -1);
    this.run = new Run({
      session: ledger.session,
      digestSalt: ledger.digestSalt,
      body: bodyOf(workflow),
      journal: this,
      limits: { ...LIMITS, replayStallMsMax: stallMs },
      codec: payloadCodec(redaction(hooks)),
      sealed: sealer !== undefined,
      log: () => undefined,
      observer: {
        stepDelivered: () => this.delivered(),
        replayFinished: () => this.quiet(),
      },
      ackLog: undefined,
      ...(resources === "standIn" && { standIn: (name) => this.standIn(name) }),
      // Longer than any verdict takes: nothing is given back.
      suspendLingerMs: 3_600_000,
      grantedMs: performance.now(),
    });
  }

  async verdict(): Promise<DryRunResult> {
    const result = new Promise<DryRunResult>((resolve, reject) => {
      this.settle = resolve;
      this.fail = reject;
    });
    void this.run.ended.then((end) => {
      const cause = "error" in end ? end.error : undefined;
      this.fail(cause ?? undecided("the run ended before a verdict", "check it again")); // D3
    });
    this.run.noteEvents(this.events);
    this.run.start(this.events.length);
    try {
      return await result;
    } finally {
      clearTimeout(this.timer);
      this.run.fence("the dry run is over");
    }
  }

  // ---- the journal ----

  append({ op }: Entry): void {
    switch (op.case) {
      case "sessionPaused":
        return this.differs(op.value.details);
      case "sessionCompleted":
      case "sessionFailed":
        return this.ended(op);
      default:
        // It asks for more than was recorded.
        return this.quiet();
    }
  }

  whenRoom(): void {
    this.quiet();
  }

  whenSure(): void {}

  async release(): Promise<boolean> {
    return true;
  }

  close(): void {}

  // ---- inside ----

  private standIn(name: string): unknown {
    return untouchable(name, (error) => this.fail(error));
  }

  private delivered(): void {
    this.outcomes += 1;
    if (this.timer !== undefined) this.quiet();
  }

  /** Everything was delivered: the verdict comes unless the code still does something. */
  private quiet(): void {
    if (this.run.isReplaying) return;
    clearTimeout(this.timer);
    this.movedMs = performance.now();
    this.timer = setTimeout(() => this.stoodStill(), QUIET_MS);
  }

  private stoodStill(): void {
    const { outcomes, recordedEnd } = this;
    const whole = recordedEnd === undefined && this.run.history.allRequested;
    if (!whole && performance.now() - this.movedMs < this.stallMs) {
      this.timer = setTimeout(() => this.stoodStill(), QUIET_MS);
      return;
    }
    const next = this.next();
    const missing = this.run.history.unrequested();
    if (missing.length > 0) {
      const [stepKey = ""] = missing;
      const requested = next.length > 0 ? `${next.join(", ")} in its place` : "nothing of the kind";
      this.settle({ compatible: false, stepKey, recorded: missing.map((key) => `"${key}"`).join(", "), requested });
    } else if (recordedEnd === undefined) this.settle({ compatible: true, outcomes, ended: false, next });
    else {
      const requested = next.length > 0 ? next.join(", ") : "nothing at all";
      this.settle({ compatible: false, stepKey: "", recorded: endInWords(recordedEnd), requested });
    }
  }

  /** What the code asks for that the ledger has not. */
  private next(): string[] {
    const { history } = this.run;
    const fresh = [...this.run.pending()].filter(({ spec }) => history.get(spec.key) === undefined);
    return fresh.map(({ spec }) => inWords(spec));
  }

  private ended(op: Entry["op"]): void {
    const { recordedEnd, outcomes } = this;
    const found = endInWords(op as Event["body"]);
    if (recordedEnd === undefined) {
      if (op.case !== "sessionFailed") {
        return this.settle({ compatible: true, outcomes, ended: false, next: [`the end: ${found}`] });
      }
      return this.settle({ compatible: false, stepKey: "", recorded: "a session that goes on", requested: found });
    }
    const recorded = endInWords(recordedEnd);
    if (recorded === found) this.settle({ compatible: true, outcomes, ended: true });
    else this.settle({ compatible: false, stepKey: "", recorded, requested: found });
  }

  private differs(details: Parameters<typeof payloadFailure>[0]): void {
    const { data } = payloadFailure(details);
    const { stepKey = "", recorded = "", requested = "" } = (data ?? {}) as Record<string, string | undefined>;
    // Code that passes the step by may ask for another one in its place.
    const pending = [...this.run.pending()].map(({ spec }) => spec);
    const instead = pending.some(({ key }) => key === stepKey) ? [] : pending.map(inWords);
    const shown = [...instead, requested || "the end"].join("; ");
    this.settle({ compatible: false, stepKey, recorded, requested: shown });
  }
}

function inWords({ kind, key }: RequestSpec): string {
  return `${kind} "${key}"`;
}

/** In place of a resource: there is no verdict on code that looks at it. */
function untouchable(name: string, touched: (error: CellaflowError) => void): unknown {
  const refuse = (): never => {
    const problem = `the code uses the resource "${name}" outside of steps, and a check acquires nothing`;
    const error = undecided(problem, 'allow it to acquire: { resources: "acquire" }, --acquire');
    touched(error);
    throw error;
  };
  return new Proxy(() => undefined, {
    // A promise looks whether its value is one.
    get: (_target, key) => (key === "then" ? undefined : refuse()),
    set: refuse,
    has: refuse,
    apply: refuse,
    construct: refuse,
    ownKeys: refuse,
    getOwnPropertyDescriptor: refuse,
  });
}

function undecided(problem: string, action: string): CellaflowError {
  return new CellaflowError("check_undecided", problem, action);
}

/** An end as text, its value included. */
function endInWords(body: Event["body"]): string {
  if (body.case === "sessionCompleted") {
    const { output } = body.value;
    return `completed with ${output?.body.case === "data" ? Buffer.from(output.body.value).toString() : "nothing"}`;
  }
  if (body.case === "sessionFailed") {
    const { code, message } = payloadFailure(body.value.failure);
    return `failed with ${code}: ${message}`;
  }
  return body.case ?? "nothing";
}
