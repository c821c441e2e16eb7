/**
 * A session's stream: its events, and what its zones stream while they stream it, from any offset on.
 *
 * Owns: resuming over lost connections and engine restarts, and what a commit leaves to be sent. Never: decides who may
 * read (the token does, and `authorize` of `sse.ts`).
 *
 * Invariants:
 * - M1 between the first item and the end every event comes once, in order, and every byte of a zone's committed attempt
 *   once, in order, whatever happens to the connection; the end always comes.
 * - M2 what was streamed of an attempt that is rolled back or fails is followed by a reset before anything else of its zone.
 * - M3 bytes that were not sent while the zone was open come from the committed event's record, before that event.
 * - M4 one item is held at a time: a slow reader holds back the engine.
 * - M5 a session that continues as another goes on as that one's stream.
 */
import { create, fromBinary } from "@bufbuild/protobuf";
import { CellaflowError } from "../errors.js";
import { ZoneRecordSchema } from "../gen/cellaflow/content/v1/content_pb.js";
import type { Event, ZoneCommitted } from "../gen/cellaflow/v1/event_pb.js";
import {
  SessionService,
  type StreamReset,
  type SubscribeSessionRequest,
  SubscribeSessionRequestSchema,
  type SubscribeSessionResponse,
  type TokenChunk,
  TokenOffsetSchema,
} from "../gen/cellaflow/v1/session_pb.js";
import { payloadBytes } from "../runtime/payloads.js";
import { streamedIn } from "../runtime/streamed.js";
import { Joiner } from "../transport/pieces.js";
import { placeIn, successorOf } from "./chain.js";
import type { ClientCore } from "./core.js";
import { carriedValue } from "./event-value.js";
import { type EventInfo, infoOf } from "./events.js";
import { offsetOf, type Position, startPosition } from "./offset.js";
import { type SessionStatus, statusOf } from "./session.js";

/** Where an item belongs. */
export interface StreamPlace {
  /** Names the place after the item: pass it as `from` to go on there. */
  offset: string;
  /** The session, or the one it has continued as: seqs and zones are its own. */
  sessionId: string;
}

/** One item of a session's stream. */
export type StreamItem = StreamPlace &
  (
    | /** An event of the session. */ { type: "event"; event: EventInfo }
    /** What a zone streamed: text from byte `byte` of its attempt on. Provisional until its `zoneCommitted` event. */
    | { type: "tokens"; zoneKey: string; attempt: number; byte: number; text: string }
    /** What came of this zone is void: forget it. `attempt` is the one whose tokens come next, if any do. */
    | { type: "reset"; zoneKey: string; attempt: number }
    /** The last item: the session has ended, or what was asked for has. */
    | { type: "end"; status: SessionStatus }
  );

/** What of a session is streamed. */
export interface SubscribeOptions {
  /** Offset of the last item that was seen. Default: from the start of the session. */
  from?: string;
  /** What zones stream, too, while they do. Default: true. */
  tokens?: boolean;
  /** The values that events carry, too (`event.value`): inputs, outputs, signals. Default: false. */
  values?: boolean;
  /** False: end with what is recorded now. Default: true, go on until the session ends. */
  live?: boolean;
  /** How long an engine may be away before the stream fails, in ms. Default: 600,000. */
  giveUpMs?: number;
  /** Ends the stream: it throws the signal's reason. */
  signal?: AbortSignal;
}

const GIVE_UP_MS_DEFAULT = 600_000;
/** Waits between attempts to subscribe again, in ms. */
const RETRY_MS = { first: 50, max: 2_000 };
/** Most bytes of text in one item that comes from a record. */
const REST_BYTES = 32 * 1_024;

/** Streams a session. */
export async function* subscribe(
  core: ClientCore,
  named: string,
  options: SubscribeOptions,
): AsyncGenerator<StreamItem, void, undefined> {
  const { from, signal } = options;
  signal?.throwIfAborted();
  const start =
    from === undefined || from === ""
      ? { sessionId: named, position: startPosition() }
      : await placeIn(core, named, from, signal);
  if (start.position.ended) return;
  let reading = new Reading(core, start.sessionId, start.position, options);
  for (;;) {
    yield* readTo(core, reading, options);
    const successor = await reading.successor(signal);
    if (successor === undefined) return yield reading.end();
    reading = new Reading(core, successor, startPosition(), options, true); // M5
  }
}

/** Streams one session to its end, over as many connections as it takes (M1). */
async function* readTo(
  core: ClientCore,
  reading: Reading,
  { signal, live = true, giveUpMs = GIVE_UP_MS_DEFAULT }: SubscribeOptions,
): AsyncGenerator<StreamItem, void, undefined> {
  let waitMs = RETRY_MS.first;
  let lostMs: number | undefined;
  for (;;) {
    const stop = new AbortController();
    const abort = (): void => stop.abort();
    signal?.addEventListener("abort", abort, { once: true });
    try {
      const request = reading.request(live);
      for await (const message of core.stream(SessionService.method.subscribeSession, request, stop.signal)) {
        waitMs = RETRY_MS.first;
        lostMs = undefined;
        yield* reading.take(message);
        if (reading.isOver) return;
      }
      // A stream that ends without its end was cut off.
    } catch (error) {
      signal?.throwIfAborted();
      lostMs ??= performance.now();
      if (!reading.survives(error) || performance.now() - lostMs > giveUpMs) throw error;
    } finally {
      signal?.removeEventListener("abort", abort);
      stop.abort();
    }
    await pause(waitMs, signal);
    waitMs = Math.min(waitMs * 2, RETRY_MS.max);
  }
}

/** How far one subscription is. */
class Reading {
  private status: SessionStatus | undefined;
  private successorId: string | undefined;
  private lastKind: Event["body"]["case"];
  private joiner = new Joiner();
  private readonly decoder = new TextDecoder();

  constructor(
    private readonly core: ClientCore,
    private readonly sessionId: string,
    private readonly position: Position,
    private readonly options: Pick<SubscribeOptions, "tokens" | "values">,
    /** True: it continues another and may be about to begin. */
    private readonly continues = false,
  ) {}

  /** True once its end has come. */
  get isOver(): boolean {
    return this.status !== undefined;
  }

  /** The session that continues this one, once its end has come. */
  async successor(signal: AbortSignal | undefined): Promise<string | undefined> {
    if (this.status !== "completed" || this.lastKind === "sessionCompleted") return undefined;
    return this.successorId ?? successorOf(this.core, this.sessionId, signal);
  }

  /** The last item. */
  end(): StreamItem {
    const { status = "running" } = this;
    this.position.ended = status === "completed" || status === "failed" || status === "cancelled";
    return { type: "end", ...this.place(), status };
  }

  /** True for what a broken connection looks like, and for what the engine says may succeed later. */
  survives(error: unknown): boolean {
    if (!(error instanceof CellaflowError)) return false;
    if (error.code === "session_not_found") return this.continues && this.position.nextSeq === 1;
    return error.retryable || error.code === "cancelled" || error.code === "engine_error";
  }

  private get tokens(): boolean {
    return this.options.tokens ?? true;
  }

  /** Asks for what comes next. */
  request(live: boolean): SubscribeSessionRequest {
    this.joiner = new Joiner();
    const fromTokens = [...this.position.zones].map(([zoneKey, { attempt, byte }]) =>
      create(TokenOffsetSchema, { zoneKey, attempt, byte: BigInt(byte) }),
    );
    return create(SubscribeSessionRequestSchema, {
      session: { by: { case: "sessionId", value: this.sessionId } },
      fromSeq: BigInt(this.position.nextSeq),
      untilCaughtUp: !live,
      tokens: this.tokens,
      fromTokens: this.tokens ? fromTokens : [],
    });
  }

  *take({ body }: SubscribeSessionResponse): Generator<StreamItem> {
    switch (body.case) {
      case "piece":
        return this.joiner.take(body.value);
      case "event":
        return yield* this.event(this.joiner.join(body.value));
      case "tokenChunk":
        return yield* this.chunk(body.value);
      case "streamReset":
        return yield this.reset(body.value);
      case "end":
        this.status = statusOf(body.value.status);
        return;
      default:
        return;
    }
  }

  private *event(event: Event): Generator<StreamItem> {
    const seq = Number(event.seq);
    if (seq < this.position.nextSeq) return;
    const { body } = event;
    if (this.tokens && body.case === "zoneCommitted") yield* this.rest(body.value);
    this.position.nextSeq = seq + 1;
    this.lastKind = body.case;
    if (body.case === "sessionContinued") this.successorId = body.value.successorId;
    if (body.case === "zoneCommitted") this.position.zones.delete(body.value.zoneKey);
    yield { type: "event", ...this.place(), event: this.info(event) };
  }

  private info(event: Event): EventInfo {
    const info = infoOf(event);
    return this.options.values === true
      ? { ...info, value: carriedValue(this.core.open(event), this.core.codec) }
      : info;
  }

  private *chunk({ zoneKey, attempt, offset, data }: TokenChunk): Generator<StreamItem> {
    const byte = this.byteOf(zoneKey, attempt);
    const from = Number(offset);
    if (from > byte) {
      throw new CellaflowError("engine_error", `bytes ${byte} to ${from} of ${zoneKey} did not come`, "try again");
    }
    const fresh = data.subarray(byte - from);
    if (fresh.length > 0) yield this.text(zoneKey, attempt, byte, fresh);
  }

  /** M3 */
  private *rest({ zoneKey, attempt, record }: ZoneCommitted): Generator<StreamItem> {
    const opened = this.core.open(record);
    // A payload that was erased, or is sealed with a key that this process lacks, has no text for it.
    if (opened === undefined || opened.codec !== "" || opened.body.case !== "data") return;
    const streamed = streamedIn(fromBinary(ZoneRecordSchema, payloadBytes(opened)));
    for (let byte = this.byteOf(zoneKey, attempt); byte < streamed.length; ) {
      const piece = streamed.subarray(byte, characterEnd(streamed, byte + REST_BYTES));
      yield this.text(zoneKey, attempt, byte, piece);
      byte += piece.length;
    }
  }

  private reset({ zoneKey, attempt }: StreamReset): StreamItem {
    this.position.zones.delete(zoneKey);
    return { type: "reset", ...this.place(), zoneKey, attempt };
  }

  private byteOf(zoneKey: string, attempt: number): number {
    const place = this.position.zones.get(zoneKey);
    return place?.attempt === attempt ? place.byte : 0;
  }

  private text(zoneKey: string, attempt: number, byte: number, data: Uint8Array): StreamItem {
    this.position.zones.set(zoneKey, { attempt, byte: byte + data.length });
    return { type: "tokens", ...this.place(), zoneKey, attempt, byte, text: this.decoder.decode(data) };
  }

  private place(): StreamPlace {
    const { sessionId } = this;
    return { offset: offsetOf(sessionId, this.position), sessionId };
  }
}

/** The last place at or before `at` where no character is cut. */
function characterEnd(bytes: Uint8Array, at: number): number {
  let end = at;
  while (end < bytes.length && ((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1;
  return end;
}

async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  await new Promise<void>((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener("abort", done, { once: true });
  });
  signal?.throwIfAborted();
}
