/**
 * What goes out on the worker channel: messages in batches, as much as the engine may buffer.
 *
 * Owns: the outbox, the credit, cutting large payloads. Never: connects, or knows what a message means.
 *
 * Invariant N1: what the engine may not buffer (credit) waits here (C4 of `channel.ts`).
 */
import type { WorkerMessage } from "../gen/cellaflow/v1/worker_pb.js";
import type { Duplex } from "./grpc.js";
import { encodeRequest, workerMessage } from "./messages.js";
import { Outbox } from "./outbox.js";
import { Cutter, PIECE_BYTES_MAX } from "./pieces.js";

/** Up to so many sessions, what is sent goes out at the end of the task: there is little to batch it with. */
const FEW_SESSIONS = 2;
/** Bytes per message of the stream, about. */
const BATCH_BYTES = 256 * 1_024;

export class Sending {
  private readonly outbox = new Outbox();
  private readonly cutter = new Cutter();
  /** Undefined: nothing may be sent. */
  private stream: Duplex | undefined;
  /** What the engine buffers for this stream, and what of it is left. In bytes. */
  private window = 0;
  private credit = 0;
  private flushScheduled = false;
  private blocked = false;

  /** `sessions`: how many are bound to the channel now. */
  constructor(private readonly sessions: () => number) {}

  /** A stream that the engine has welcomed takes messages from now on. */
  open(stream: Duplex | undefined, windowBytes: number): void {
    this.stream = stream;
    this.window = windowBytes;
    this.credit = windowBytes;
    this.blocked = false;
  }

  /** The stream takes nothing any more; what was not sent stays. */
  close(): void {
    this.stream = undefined;
  }

  /** Forgets what was not sent. */
  clear(): void {
    this.outbox.clear();
  }

  /** The engine has room again. */
  granted(bytes: number): void {
    this.credit = Math.min(this.window, this.credit + bytes);
    this.scheduleFlush();
  }

  /** Sends a message of a session; `bytes` is about what it carries. */
  message(session: string, message: WorkerMessage, bytes: number): void {
    if (bytes > PIECE_BYTES_MAX / 2) {
      const cut = this.cutter.cut(message);
      for (const value of cut.pieces) {
        this.outbox.put(session, { message: workerMessage({ case: "piece", value }), bytes: value.data.length + 32 });
      }
      this.outbox.put(session, { message: cut.message, bytes: 1_024 });
    } else this.outbox.put(session, { message, bytes: bytes + 128 });
    this.scheduleFlush();
  }

  /** Sends a message of the channel itself, before those of sessions. */
  control(body: WorkerMessage["body"]): void {
    this.outbox.putControl({ message: workerMessage(body), bytes: 64 });
    this.scheduleFlush();
  }

  flush(): void {
    this.flushScheduled = false;
    while (this.stream !== undefined && !this.blocked && this.credit > 0 && !this.outbox.isEmpty) {
      const bytes = encodeRequest(this.outbox.take(Math.min(BATCH_BYTES, this.credit)));
      this.credit -= bytes.length;
      if (!this.stream.write(bytes)) this.blocked = true;
    }
  }

  /** The stream takes more. */
  drained(): void {
    this.blocked = false;
    this.flush();
  }

  private readonly flushNow = (): void => this.flush();

  private scheduleFlush(): void {
    if (this.flushScheduled || this.stream === undefined) return;
    this.flushScheduled = true;
    // With many sessions the messages of a whole turn of the event loop travel together; for a lone one that turn
    // would be a good part of what a step costs.
    if (this.sessions() <= FEW_SESSIONS) process.nextTick(this.flushNow);
    else setImmediate(this.flushNow);
  }
}
