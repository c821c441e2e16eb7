/**
 * One attempt of a zone: what its body works with, and what is kept of it while it runs.
 *
 * Owns: state, inner steps and evidence of the attempt. Never: enters or commits (`zone.ts`).
 */
import { create } from "@bufbuild/protobuf";
import type { ZoneRecord } from "../gen/cellaflow/content/v1/content_pb.js";
import { ZoneEvidenceSchema } from "../gen/cellaflow/v1/worker_pb.js";
import { Evidence } from "./evidence.js";
import { checkInside } from "./inside.js";
import type { Run } from "./run.js";
import { StateStore } from "./state.js";
import { StreamNotes } from "./streamed.js";
import type { ZoneRequest } from "./zone.js";
import { ZoneInner } from "./zone-inner.js";

/** One attempt of a zone. */
export class ZoneAttempt {
  readonly inner: ZoneInner;
  readonly state: StateStore;
  readonly startedMs = performance.now();
  /** What it streamed so far. */
  readonly streamed = new StreamNotes();
  private readonly evidence: Evidence;
  private readonly controller = new AbortController();

  constructor(
    readonly run: Run,
    readonly request: ZoneRequest<unknown>,
    readonly number: number,
    recorded: ZoneRecord | undefined,
    llmCalls: ConstructorParameters<typeof ZoneInner>[2],
  ) {
    const { key, name } = request.spec;
    this.evidence = new Evidence(run.settings.limits.evidenceBytesMax, (offset, data) =>
      this.sendEvidence(offset, data),
    );
    const live = recorded === undefined && !run.settings.sealed;
    const emit = (callKey: string, text: string): void => {
      const whole = this.streamed.note(callKey, text);
      if (live) this.evidence.add(whole);
    };
    const zone = { key, name, attempt: number, abort: (reason: unknown) => this.abort(reason) };
    this.inner = new ZoneInner(run, zone, llmCalls, emit, request.spec.after);
    this.state = new StateStore(run.settings.codec, (call) => this.check(call), run.state);
  }

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  /** Refuses a call from inside a step of the zone. */
  check(call: string): void {
    checkInside(this.run, call, this);
  }

  stop(reason: unknown): void {
    this.evidence.stop();
    this.inner.stop(reason);
    this.controller.abort(reason);
  }

  abort(reason: unknown): void {
    this.request.abort(reason);
  }

  private sendEvidence(offset: number, data: Uint8Array): void {
    const { spec } = this.request;
    const value = create(ZoneEvidenceSchema, { zoneKey: spec.key, attempt: this.number, offset: BigInt(offset), data });
    const op = { case: "zoneEvidence", value } as const;
    this.run.append(spec.after, { op, bytes: data.length, deltas: false, refused: () => this.evidence.stop() });
  }
}
