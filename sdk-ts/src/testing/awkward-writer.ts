/**
 * Writes an answer's bytes the way networks do at their worst: slowly, cut anywhere, or not to the end.
 *
 * Owns: how bytes leave. Never: knows what they mean.
 */
import type { ServerResponse } from "node:http";
import { setImmediate as nextTurn } from "node:timers/promises";
import { sleep } from "./http.js";

/** How an answer's bytes are written. */
export interface Delivery {
  /** Wait before the first byte, in milliseconds. */
  firstByteDelayMs?: number;
  /** Wait before each further frame, in milliseconds. */
  chunkDelayMs?: number;
  /** Write so many bytes, then nothing until the test releases it or the client goes away. */
  stallAtByte?: number;
  /** Write so many bytes, then close the connection in the middle of the answer. */
  dieAtByte?: number;
  /** Cut the bytes inside UTF-8 sequences and frames, each piece sent on its own. */
  awkwardCuts?: boolean;
}

/** The sizes of awkward pieces, in bytes, over and over: small enough to cut a 2-byte character and every frame. */
const AWKWARD_SIZES = [1, 2, 1, 3, 5, 1, 8, 13];

/** Writes one answer. */
export class AwkwardWriter {
  /** How many bytes of the body were written. */
  bytes = 0;
  /** When the first byte was written, in milliseconds since the epoch. */
  firstByteMs: number | undefined;
  private cut = 0;
  private readonly gone = new AbortController();
  private released: () => void = () => undefined;

  constructor(
    private readonly response: ServerResponse,
    private readonly how: Delivery,
    private readonly now: () => number,
  ) {
    response.once("close", () => this.gone.abort());
  }

  /** Lets a stalled answer go on. */
  release(): void {
    this.released();
  }

  /** Writes one frame; returns false when the rest of the answer must not be written. */
  async write(frame: string): Promise<boolean> {
    await sleep(this.bytes === 0 ? (this.how.firstByteDelayMs ?? 0) : (this.how.chunkDelayMs ?? 0), this.gone.signal);
    const bytes = Buffer.from(frame, "utf8");
    for (const piece of this.pieces(bytes)) {
      if (!(await this.writePiece(piece))) return false;
      if (this.how.awkwardCuts === true) await nextTurn();
    }
    return !this.gone.signal.aborted;
  }

  private *pieces(bytes: Buffer): Generator<Buffer> {
    if (this.how.awkwardCuts !== true) {
      yield bytes;
      return;
    }
    for (let at = 0; at < bytes.length; ) {
      const size = AWKWARD_SIZES[this.cut++ % AWKWARD_SIZES.length] ?? 1;
      yield bytes.subarray(at, at + size);
      at += size;
    }
  }

  private async writePiece(piece: Buffer): Promise<boolean> {
    const end = this.bytes + piece.length;
    const { dieAtByte, stallAtByte } = this.how;
    if (dieAtByte !== undefined && dieAtByte < end) {
      await this.send(piece.subarray(0, Math.max(0, dieAtByte - this.bytes)));
      this.response.socket?.destroy();
      return false;
    }
    if (stallAtByte !== undefined && stallAtByte >= this.bytes && stallAtByte < end) {
      const before = stallAtByte - this.bytes;
      await this.send(piece.subarray(0, before));
      await this.stall();
      return this.send(piece.subarray(before));
    }
    return this.send(piece);
  }

  private stall(): Promise<void> {
    if (this.gone.signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      this.released = resolve;
      this.gone.signal.addEventListener("abort", () => resolve());
    });
  }

  private async send(bytes: Buffer): Promise<boolean> {
    if (this.gone.signal.aborted) return false;
    if (bytes.length === 0) return true;
    await new Promise<void>((resolve) => {
      this.response.write(bytes, () => resolve());
    });
    this.firstByteMs ??= this.now();
    this.bytes += bytes.length;
    return !this.gone.signal.aborted;
  }
}
