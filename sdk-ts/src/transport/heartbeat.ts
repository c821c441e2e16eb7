/**
 * Renews this process's leases: a unary call every third of their TTL.
 *
 * Owns: when it is made, from which thread, and noticing that a connection is dead though it looks open. Never: reconnects
 * by itself.
 *
 * Invariants:
 * - B1 before the first function of a user runs, beats come from this thread; from then on from a thread of their own
 *   (`heartbeat-thread.ts`), so that a function that blocks (`execSync`) keeps its lease.
 * - B2 a process that is stopped (SIGSTOP, a frozen machine) beats from neither.
 * - B3 a thread that was blocked for longer than `BLOCKED_MS_MAX` counts as dead: nobody waits for ever for a loop that
 *   never ends.
 */
import { Worker } from "node:worker_threads";
import { create } from "@bufbuild/protobuf";
import { HeartbeatRequestSchema, WorkerService } from "../gen/cellaflow/v1/worker_pb.js";
import type { Logger } from "../runtime/observer.js";
import type { GrpcClient } from "./grpc.js";
import { type BeatOrders, type BeatReport, Liveness } from "./liveness.js";

/** Beats without an answer after which the stream counts as dead. */
const MISSED_MAX = 2;
/** Longest time this process's main thread may be blocked before its leases run out, in ms: 10 minutes. */
export const BLOCKED_MS_MAX = 600_000;

/** Beats and says whether the engine knows the instance. */
export class Beats {
  private missed = 0;

  constructor(
    private readonly client: GrpcClient,
    private readonly instance: string,
  ) {}

  /** Makes one call; resolves with false when the connection is dead or the engine does not know this instance. */
  async beat(timeoutMs: number): Promise<boolean> {
    const request = create(HeartbeatRequestSchema, { instance: this.instance });
    try {
      const { known } = await this.client.unary(WorkerService.method.heartbeat, request, { timeoutMs });
      this.missed = 0;
      return known;
    } catch {
      // A dead connection may look open for long.
      this.missed += 1;
      return this.missed < MISSED_MAX;
    }
  }
}

export class Heartbeat {
  private timer: NodeJS.Timeout | undefined;
  private dead: () => void = () => {};
  private everyMs = 0;
  private thread: Worker | undefined;
  private threadBeats = false;
  private readonly liveness = new Liveness();

  constructor(
    private readonly client: GrpcClient,
    private readonly instance: string,
    private readonly log: Logger,
  ) {}

  /** Beats from now on; `dead` is called when the engine does not know this instance, or does not answer. */
  start(everyMs: number, dead: () => void): void {
    this.stop();
    this.dead = dead;
    this.everyMs = everyMs;
    const beats = new Beats(this.client, this.instance);
    const timer = setInterval(() => {
      if (this.threadBeats) return;
      void beats.beat(everyMs).then((alive) => {
        if (!alive && this.timer === timer) dead();
      });
    }, everyMs);
    this.timer = timer;
    this.order();
  }

  stop(): void {
    clearInterval(this.timer);
    this.timer = undefined;
    this.order();
  }

  /** B1. Starting the thread takes a few ms, once per process. */
  outliveBlocking(): void {
    if (this.thread !== undefined || this.timer === undefined) return;
    const workerData: BeatOrders = {
      found: this.client.found,
      instance: this.instance,
      everyMs: this.everyMs,
      blockedMsMax: BLOCKED_MS_MAX,
      liveness: this.liveness.shared,
    };
    const thread = new Worker(new URL("./heartbeat-thread.js", import.meta.url), { workerData, execArgv: [] });
    this.thread = thread;
    this.liveness.start();
    thread.on("message", (report: BeatReport) => {
      this.threadBeats = true;
      if (report === "dead" && this.timer !== undefined) this.dead();
    });
    thread.on("error", (error) => this.withoutThread(String(error)));
    thread.on("exit", () => this.withoutThread("it ended"));
    // After the listeners: the one for messages takes a reference of its own, and no process would end by itself.
    thread.unref();
  }

  /** Beats come from the main thread again: better than from none. */
  private withoutThread(why: string): void {
    if (this.thread === undefined) return;
    this.threadBeats = false;
    this.thread = undefined;
    this.liveness.stop();
    this.log("warn", "the thread that renews leases is gone; a blocked event loop may lose its sessions", { why });
  }

  private order(): void {
    this.thread?.postMessage(this.timer === undefined ? 0 : this.everyMs);
  }
}
