/**
 * A wait: a request whose outcome comes from outside the run. What timers, signals and approvals have in common.
 *
 * Owns: opening a wait, dropping it, its place among the session's open ones. Never: holds a thread, a worker or a clock
 * for what it waits for (the engine does the waiting), and never settles by itself.
 *
 * Invariants:
 * - W1 a wait is opened by one event; a run that finds it open waits on for the same outcome, from the same start.
 * - W2 a wait is settled by its outcome event alone, in ledger order: a race against it replays as it ran.
 * - W3 a wait that its AbortSignal drops rejects when the drop is in the ledger. An outcome that came before wins.
 */
import { create } from "@bufbuild/protobuf";
import type { CancelledError } from "../errors.js";
import { StepError } from "../failure.js";
import { type Event, WaitDroppedSchema } from "../gen/cellaflow/v1/event_pb.js";
import type { KeyRecord } from "./history.js";
import type { Appended, AppendOp } from "./journal.js";
import { payloadValue, stepErrorOf } from "./payloads.js";
import { Request, type RequestSpec } from "./request.js";
import type { Run } from "./run.js";

/** Code of the error that a dropped wait rejects with. */
export const WAIT_DROPPED = "wait_dropped";

/** What opens a wait. */
export interface Opening {
  op: AppendOp;
  /** Size of its payloads in bytes. */
  bytes: number;
  /** When it is over at the latest, by this process's clock, in ms since the Unix epoch; undefined: never. */
  dueMs: number | undefined;
}

/** A wait of one run. */
export abstract class WaitRequest<T> extends Request<T> {
  /** When it is over at the latest, in ms since the Unix epoch (about: clocks differ); undefined: not known, or never. */
  dueMs: number | undefined;
  private state: "new" | "queued" | "opening" | "open" | "over" = "new";
  private hasSlot = false;
  private unwanted = false;

  constructor(
    protected readonly run: Run,
    spec: RequestSpec,
    private readonly signal: AbortSignal | undefined,
  ) {
    super(spec);
  }

  /** Makes what opens it. */
  protected abstract opening(): Opening;

  /** Settles it with its outcome. */
  protected abstract outcome(event: Event): void;

  override get parked(): boolean {
    return this.state === "queued" || this.state === "open";
  }

  override begin(record: KeyRecord | undefined): void {
    this.state = "queued";
    this.signal?.addEventListener("abort", this.drop, { once: true });
    if (record !== undefined) this.opened(record.dueMs); // W1
    this.run.activity.whenSlot(() => {
      if (this.state === "over") return this.run.activity.freeSlot();
      this.hasSlot = true;
      if (record === undefined) this.run.whenStartable(() => this.open(), this as Request);
    });
    if (this.signal?.aborted) this.drop();
  }

  override noted(event: Event): void {
    const body = event.body.case;
    if (body === "timerFired" || body === "signalDelivered" || body === "approvalDecided" || body === "waitDropped") {
      this.close();
    }
  }

  override abort(): void {
    this.close();
  }

  /** The session goes on with its cleanup: nobody waits for this any more, there neither. */
  override cancel(error: CancelledError): void {
    if (this.state === "opening" || this.state === "open") {
      const op = { case: "waitDropped", value: create(WaitDroppedSchema, { stepKey: this.spec.key }) } as const;
      this.run.append(this.run.after, { op, bytes: 0, refused: () => {} });
    }
    super.cancel(error);
  }

  override deliverEvent(event: Event): readonly (string | undefined)[] {
    const { body } = event;
    if (body.case === "waitDropped") this.reject(this.droppedError());
    else if (body.case !== "forkEdited") this.outcome(event);
    else if (body.value.edit.case === "failure") this.reject(stepErrorOf(body.value.edit.value));
    else this.resolve(payloadValue(body.value.edit.value, this.run.settings.codec) as T);
    return [];
  }

  override deliverOwn(): readonly (string | undefined)[] {
    this.reject(this.droppedError()); // W3: the only outcome that the run itself commits.
    return [];
  }

  // ---- inside ----

  private open(): void {
    if (this.state !== "queued") return;
    const { op, bytes, dueMs } = this.opening();
    this.state = "opening";
    this.run.append(this.spec.after, { op, bytes, acked: () => this.opened(dueMs) });
  }

  private opened(dueMs: number | undefined): void {
    if (this.state === "over") return;
    this.state = "open";
    this.dueMs = dueMs;
    this.run.parking.opened(this);
    if (this.unwanted) this.sayDropped();
  }

  private readonly drop = (): void => {
    if (this.unwanted || this.state === "over") return;
    this.unwanted = true;
    if (this.state === "open") this.sayDropped();
  };

  private sayDropped(): void {
    this.run.append(this.run.after, {
      op: { case: "waitDropped", value: create(WaitDroppedSchema, { stepKey: this.spec.key }) },
      bytes: 0,
      outcomeOf: this as Request,
      acked: (answer: Appended) => {
        if (answer.seq > 0) this.close();
      },
      // The engine has closed it already: its outcome is on the way.
      refused: () => {},
    });
  }

  private close(): void {
    if (this.state === "over") return;
    this.state = "over";
    this.signal?.removeEventListener("abort", this.drop);
    this.run.parking.closed(this);
    if (!this.hasSlot) return;
    this.hasSlot = false;
    this.run.activity.freeSlot();
  }

  private droppedError(): StepError {
    const { key, name } = this.spec;
    return new StepError({
      name: "WaitDropped",
      code: WAIT_DROPPED,
      message: `the wait "${name}" (${key}) was dropped by its signal`,
      retryable: false,
    });
  }
}
