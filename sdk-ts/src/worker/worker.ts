/**
 * A worker: takes sessions by dispatch and runs them.
 *
 * Owns: which workflows are served, how many sessions at a time, shutting down. Never: installs signal handlers unless
 * it is asked to.
 *
 * Invariants:
 * - K1 a worker that shuts down takes nothing new, lets begun steps finish within the grace time, gives its leases
 *   back and says whether anything is in flight.
 */
import { MisuseError } from "../errors.js";
import { connectionOf } from "../internal/connection.js";
import { host, quietLogger, type RunOptions } from "../internal/hosting.js";
import { type Logger, stderrLogger } from "../runtime/observer.js";
import type { Run } from "../runtime/run.js";
import { deferred } from "../runtime/step-promise.js";
import { Definitions } from "../runtime/version.js";
import type { Workflow } from "../runtime/workflow.js";
import type { Binding } from "../transport/binds.js";
import type { Channel } from "../transport/channel.js";
import type { ConnectionOptions } from "../transport/lookup.js";

const SESSIONS_DEFAULT = 64;
const GRACE_MS_DEFAULT = 30_000;

/** What a worker is made of. */
export interface WorkerOptions extends RunOptions {
  /** Where the engine is. Default: looked up. */
  connection?: ConnectionOptions;
  /** The workflows it serves; several versions of one, and versions compatible with earlier ones, may be among them. */
  workflows: readonly Workflow[];
  /** Sessions it runs at a time by dispatch. Default: 64. */
  maxConcurrentSessions?: number;
}

/** How a worker runs. */
export interface WorkerRunOptions {
  /** Shuts the worker down. */
  signal?: AbortSignal;
  /** How long begun steps may go on when it shuts down, in ms. Default: 30,000. */
  shutdownGraceMs?: number;
  /** Shut down on SIGTERM and SIGINT as well. Default: false, signals stay the program's. */
  handleSignals?: boolean;
}

/** A worker. */
export interface Worker {
  /**
   * Takes and runs sessions until it is shut down; resolves when everything is given back.
   *
   * @throws CellaflowError `unauthenticated`, `permission_denied`, … when the engine does not take this worker
   */
  run(options?: WorkerRunOptions): Promise<void>;
  /** Sessions that run here now. */
  readonly sessions: number;
}

/** Creates a worker. @throws CellaflowError `no_connection`, `invalid_connection`; MisuseError `invalid_worker` */
export function createWorker(options: WorkerOptions): Worker {
  return new WorkerLoop(options);
}

class WorkerLoop implements Worker {
  private readonly definitions: Definitions;
  private readonly runs = new Set<Run>();
  private readonly hosted = new Set<Promise<void>>();
  private readonly channel: Channel;
  private readonly log: Logger;
  private readonly max: number;
  private stopping = false;

  constructor(private readonly options: WorkerOptions) {
    this.max = options.maxConcurrentSessions ?? SESSIONS_DEFAULT;
    this.log = options.log ?? quietLogger(stderrLogger);
    this.definitions = new Definitions(options.workflows);
    if (options.workflows.length === 0) {
      throw new MisuseError("invalid_worker", "the worker serves no workflow", "pass { workflows: [workflow(…)] }");
    }
    this.channel = connectionOf(options.connection).channel;
  }

  get sessions(): number {
    return this.hosted.size;
  }

  async run(options: WorkerRunOptions = {}): Promise<void> {
    const { signal, shutdownGraceMs = GRACE_MS_DEFAULT, handleSignals = false } = options;
    const stopped = whenStopped(signal, handleSignals);
    const refused = deferred<never>();
    this.stopping = false;
    this.channel.serve({
      workflows: this.definitions.served,
      free: () => this.free,
      assigned: (binding) => this.assigned(binding),
      refused: refused.reject,
    });
    await Promise.race([stopped, refused.promise]);
    await this.shutDown(shutdownGraceMs);
  }

  private get free(): number {
    return this.stopping ? 0 : Math.max(0, this.max - this.hosted.size);
  }

  private assigned({ assigned, link }: Binding): void {
    const { session } = assigned;
    if (link === undefined || session === undefined) return;
    const definition = this.definitions.find(session.workflow, session.version);
    if (definition === undefined || this.stopping) {
      void link.release(this.stopping ? "shutdown" : "unable").then(() => link.close());
      return;
    }
    const hosted = host(this.channel, link, assigned, definition, { ...this.options, log: this.log }, (run) => {
      this.runs.add(run);
      void run.ended.then(() => this.runs.delete(run));
    }).then(
      () => undefined,
      (error: unknown) => {
        this.log("error", "a session could not be run", { sessionId: session.sessionId, error: String(error) });
      },
    );
    this.hosted.add(hosted);
    this.channel.sayCapacity(this.free);
    void hosted.then(() => {
      this.hosted.delete(hosted);
      this.channel.sayCapacity(this.free);
    });
  }

  private async shutDown(graceMs: number): Promise<void> {
    this.stopping = true;
    this.channel.sayCapacity(0);
    const runs = [...this.runs].map((run) => run.suspend("shutdown", graceMs));
    await Promise.all(runs);
    await Promise.all(this.hosted);
    this.channel.serve(undefined);
  }
}

function whenStopped(signal: AbortSignal | undefined, handleSignals: boolean): Promise<void> {
  return new Promise((resolve) => {
    const stop = (): void => {
      signal?.removeEventListener("abort", stop);
      process.removeListener("SIGTERM", stop);
      process.removeListener("SIGINT", stop);
      resolve();
    };
    if (signal?.aborted) return resolve();
    signal?.addEventListener("abort", stop, { once: true });
    if (handleSignals) {
      process.once("SIGTERM", stop);
      process.once("SIGINT", stop);
    }
  });
}
