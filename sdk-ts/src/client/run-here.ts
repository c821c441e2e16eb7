/**
 * `client.run`: a session in this process, until it ends, pauses, waits, or somebody else has it.
 *
 * Owns: binding, running, following others' runs, following a session while it waits. Never: takes a live lease.
 *
 * Invariants:
 * - R1 once the session is known it is bound by its id: a lost lease never leads to another session.
 * - R2 a live lease of somebody else's is followed for `waitMs`, not taken.
 * - R3 a session that continues as another one is run here as that one.
 * - R4 a session that is pinned to a version which the code is compatible with is bound as that version.
 */
import type { MessageShape } from "@bufbuild/protobuf";
import { CellaflowError } from "../errors.js";
import type { StartSessionRequestSchema } from "../gen/cellaflow/v1/engine_pb.js";
import { host, type RunOptions } from "../internal/hosting.js";
import type { Logger } from "../runtime/observer.js";
import type { RunEnd } from "../runtime/run-types.js";
import { serves } from "../runtime/version.js";
import type { Workflow } from "../runtime/workflow.js";
import type { Binding } from "../transport/binds.js";
import type { RunHereOptions, SessionResult } from "./api.js";
import { type ClientCore, retried } from "./core.js";
import { Deadline, handedOver } from "./deadline.js";
import { untilMovable } from "./follow.js";
import { awaitResult, settledResult } from "./results.js";
import { infoOf, successorOf } from "./successor.js";

const RUN_WAIT_MS_DEFAULT = 60_000;

/** What is run. */
export interface HereWork {
  workflow: Workflow;
  request: MessageShape<typeof StartSessionRequestSchema>;
  options: RunHereOptions;
  /** Session that is there already; `request` is not sent then. */
  sessionId?: string;
  /** Names the session of a key, when another run of it answers the start. */
  keySession(): Promise<string>;
  /** Told the session as soon as it is known. */
  known(sessionId: string): void;
}

/** One call of `client.run`. */
export class HereRun<O> {
  private readonly deadline: Deadline;
  private sessionId: string | undefined;
  /** Version that the session is pinned to, as far as it is known. */
  private version: string;
  private told = false;

  constructor(
    private readonly core: ClientCore,
    private readonly runOptions: RunOptions & { log: Logger },
    private readonly work: HereWork,
  ) {
    this.version = work.workflow.version;
    if (work.sessionId !== undefined) this.know(work.sessionId);
    this.deadline = new Deadline(work.options.deadlineMs, work.options.handOverMs);
  }

  /** Runs it; with `whileWaiting: "follow"` as often as it has waited. */
  async result(): Promise<SessionResult<O>> {
    const { signal, whileWaiting } = this.work.options;
    for (;;) {
      const result = await this.untilItStops();
      if (result.status !== "waiting" || whileWaiting !== "follow") return result;
      const movable = await untilMovable(this.core, result.sessionId, { signal, waitMs: this.deadline.leftMs });
      if (!movable) return result;
    }
  }

  private async untilItStops(): Promise<SessionResult<O>> {
    const { signal, waitMs = RUN_WAIT_MS_DEFAULT } = this.work.options;
    const until = performance.now() + Math.min(waitMs, this.deadline.leftMs);
    for (;;) {
      const binding = await leased(() => retried(() => this.bind(), signal));
      if (binding !== undefined) {
        const result = await this.bound(binding);
        if (result !== undefined) return result;
        if (binding.assigned.session?.sessionId !== this.sessionId) continue; // R3
      }
      const sessionId = this.sessionId ?? this.know(await this.work.keySession());
      if (performance.now() < until) this.tell(sessionId);
      const ahead = { waitMs: until - performance.now(), untilUnleased: true, signal };
      const followed = await awaitResult<O>(this.core, sessionId, ahead);
      if (followed.status !== "runningElsewhere" || performance.now() >= until) return followed;
    }
  }

  private async bind(): Promise<Binding> {
    const { channel } = this.core.shared;
    const { request, options } = this.work;
    try {
      return await (this.sessionId === undefined
        ? channel.start(request, options.signal)
        : channel.attach(this.sessionId, this.version, options.signal)); // R1
    } catch (error) {
      if (!(await this.pinnedToCompatible(error))) throw error;
      return channel.attach(this.know(this.sessionId ?? ""), this.version, options.signal); // R4
    }
  }

  /** R4. After a mismatch: learns the session and its version, and says whether this code is compatible with it. */
  private async pinnedToCompatible(error: unknown): Promise<boolean> {
    const { workflow, options, keySession } = this.work;
    const mismatch = error instanceof CellaflowError && error.code === "version_mismatch";
    if (!mismatch || workflow.compatible.length === 0) return false;
    const sessionId = this.sessionId ?? (await keySession());
    const { version } = await infoOf(this.core, sessionId, options.signal);
    if (version === this.version || !serves(workflow, version)) return false;
    this.know(sessionId);
    this.version = version;
    return true;
  }

  private async bound(binding: Binding): Promise<SessionResult<O> | undefined> {
    const { assigned, link } = binding;
    const sessionId = this.know(assigned.session?.sessionId ?? "");
    if (link === undefined) {
      if (assigned.session?.continuedTo) return this.goOn(sessionId, assigned.session.continuedTo);
      return settledResult<O>(this.core.open(assigned), this.core.codec);
    }
    const { workflow } = this.work;
    checkVersion(workflow, this.version, assigned.session?.version, link.release.bind(link), link.close.bind(link));
    const end = await this.hosted(binding);
    return this.deadline.handedOver(end) ? handedOver(sessionId) : this.resultOf(sessionId, end);
  }

  private async hosted({ assigned, link }: Binding): Promise<RunEnd> {
    if (link === undefined) throw new CellaflowError("engine_error", "no lease was granted", "try again");
    const { workflow, options } = this.work;
    const { signal } = options;
    let stop = (): void => {};
    const end = await host(this.core.shared.channel, link, assigned, workflow, this.runOptions, (run) => {
      stop = () => void run.suspend("shutdown", 30_000);
      signal?.addEventListener("abort", stop, { once: true });
      if (signal?.aborted) stop();
      this.deadline.watch(run);
    });
    signal?.removeEventListener("abort", stop);
    this.deadline.unwatch();
    return end;
  }

  private async resultOf(sessionId: string, end: RunEnd): Promise<SessionResult<O> | undefined> {
    const { signal } = this.work.options;
    if (end.kind === "completed") return { status: "completed", sessionId, output: end.output as O };
    if (end.kind === "failed") return { status: "failed", sessionId, failure: end.failure };
    if (end.kind === "cancelled") return { status: "cancelled", sessionId };
    if (end.kind === "continued") return this.goOn(sessionId, end.successorId);
    signal?.throwIfAborted();
    if (end.kind === "suspended" && end.why === "unable" && end.error !== undefined) throw end.error;
    const result = await awaitResult<O>(this.core, sessionId, { waitMs: 0, signal });
    if (result.status === "paused" && end.kind === "suspended" && end.error !== undefined) {
      return { ...result, reason: end.error.message };
    }
    return result.status === "runningElsewhere" ? undefined : result;
  }

  /** R3. A successor of another version is somebody else's to run. */
  private async goOn(sessionId: string, successorId: string): Promise<SessionResult<O> | undefined> {
    const successor = await successorOf(this.core, sessionId, successorId, this.work.options.signal);
    this.sessionId = successor.sessionId;
    this.version = successor.version;
    if (serves(this.work.workflow, successor.version)) return undefined;
    const reason = `version "${successor.version}" of the workflow continues it`;
    return { status: "runningElsewhere", sessionId: successor.sessionId, reason };
  }

  private know(sessionId: string): string {
    if (this.sessionId === undefined) this.work.known(sessionId);
    this.sessionId ??= sessionId;
    return sessionId;
  }

  private tell(sessionId: string): void {
    if (this.told) return;
    this.told = true;
    // After a kill -9 this lasts as long as a lease: without a word it would look like a hang.
    const text = "another run holds this session: waiting for its end, or its lease's";
    this.runOptions.log("warn", text, { sessionId });
  }
}

/** The engine refuses another version itself; an engine that does not must not make us run the wrong code. */
function checkVersion(
  workflow: { name: string; version: string },
  asked: string,
  pinned: string | undefined,
  release: (why: "unable") => Promise<boolean>,
  close: () => void,
): void {
  if (pinned === undefined || pinned === asked) return;
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
