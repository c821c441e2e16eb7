/**
 * What a zone streams, sent to the engine as evidence until the zone commits.
 *
 * Owns: the coalescing of streamed text. Never: is read by the run.
 *
 * Invariants:
 * - V1 offsets are bytes within the attempt, without gaps; text is cut only between characters.
 * - V2 evidence is bounded per attempt (`evidence_bytes_max`); what is beyond is not sent.
 */

/** From one message to the next, in ms: streamed text waits at most this long, and the first not at all. */
const EVIDENCE_WAIT_MS = 50;
/** …or until this much is there, in bytes. */
const EVIDENCE_BYTES = 16 * 1_024;
/** Most bytes in one message. */
const MESSAGE_BYTES_MAX = 48 * 1_024;

const encoder = new TextEncoder();

/** Coalesces what one attempt of a zone streams. */
export class Evidence {
  private waiting = "";
  private offset = 0;
  private timer: NodeJS.Timeout | undefined;
  private flushedMs = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly bytesMax: number,
    private readonly send: (offset: number, data: Uint8Array) => void,
  ) {}

  add(text: string): void {
    this.waiting += text;
    if (this.waiting.length >= EVIDENCE_BYTES) this.flush();
    else this.timer ??= setTimeout(() => this.flush(), this.waitMs);
  }

  private get waitMs(): number {
    return Math.max(0, this.flushedMs + EVIDENCE_WAIT_MS - performance.now());
  }

  /** Sends nothing any more: the zone has committed or is over. */
  stop(): void {
    clearTimeout(this.timer);
    this.waiting = "";
    this.offset = Number.MAX_SAFE_INTEGER;
  }

  /** Sends what waits. */
  flush(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.flushedMs = performance.now();
    while (this.waiting !== "") {
      const data = new Uint8Array(MESSAGE_BYTES_MAX);
      // Never cuts a character in two.
      const { read, written } = encoder.encodeInto(this.waiting, data);
      if (this.offset + written > this.bytesMax) return this.stop();
      this.waiting = this.waiting.slice(read);
      this.send(this.offset, data.subarray(0, written));
      this.offset += written;
    }
  }
}
