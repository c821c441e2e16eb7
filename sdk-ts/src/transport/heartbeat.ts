/**
 * Renews this process's leases: a unary call every third of their TTL.
 *
 * Owns: the timer, and noticing that a connection is dead though it looks open. Never: reconnects by itself.
 */
import { create } from "@bufbuild/protobuf";
import { HeartbeatRequestSchema, WorkerService } from "../gen/cellaflow/v1/worker_pb.js";
import type { GrpcClient } from "./grpc.js";

/** Beats without an answer after which the stream counts as dead. */
const MISSED_MAX = 2;

export class Heartbeat {
  private timer: NodeJS.Timeout | undefined;
  private missed = 0;

  constructor(
    private readonly client: GrpcClient,
    private readonly instance: string,
  ) {}

  /** Beats from now on; `dead` is called when the engine does not know this instance, or does not answer. */
  start(everyMs: number, dead: () => void): void {
    this.stop();
    this.missed = 0;
    this.timer = setInterval(() => void this.beat(everyMs, this.timer, dead), everyMs);
  }

  stop(): void {
    clearInterval(this.timer);
    this.timer = undefined;
  }

  private async beat(timeoutMs: number, timer: NodeJS.Timeout | undefined, dead: () => void): Promise<void> {
    const request = create(HeartbeatRequestSchema, { instance: this.instance });
    let alive = true;
    try {
      const { known } = await this.client.unary(WorkerService.method.heartbeat, request, { timeoutMs });
      this.missed = 0;
      alive = known;
    } catch {
      // A dead connection may look open for long.
      alive = ++this.missed < MISSED_MAX;
    }
    if (!alive && this.timer === timer) dead();
  }
}
