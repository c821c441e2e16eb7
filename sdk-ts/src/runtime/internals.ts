/**
 * What a model call needs of the run it belongs to: the seam between `runtime/` and `llm/`.
 *
 * A model call is a journaled request like any step. Outside a zone it becomes one `StepCompleted` whose output is the
 * answer (PAYLOAD_FORMAT_LLM_RESPONSE) and whose `llm` says request and usage; inside a zone it is buffered as a
 * `ZoneOutcome.llm` and its request and usage go into `ZoneCommitted.llm_calls`. The host does all of that, delivers
 * outcomes in order, retries, times out, aborts, and replays; `llm/` only builds requests and talks to providers.
 *
 * Invariants:
 * - I1 `perform` is never called for a call that has a recorded answer; `recorded` is then called once instead, as
 *   soon as the call is requested, so that a stream can hand the recorded chunks out again. The promise settles later,
 *   at the outcome's place in the order.
 * - I2 one `perform` is one provider request, and one journaled attempt outside a zone.
 * - I3 every answer the caller sees was read back from its stored bytes.
 */
import type { LlmRequest, LlmResponse } from "../gen/cellaflow/content/v1/content_pb.js";
import type { Usage } from "../gen/cellaflow/v1/common_pb.js";
import type { WorstCase } from "./budget.js";
import type { Conversation } from "./conversation.js";
import type { Resource, RetryPolicy, StepLog } from "./options.js";
import type { TextRegistry } from "./texts.js";

/** Which event recorded a model request; later requests may be based on it. */
export interface RequestPlace {
  /** Seq of the event; 0 until it is known (inside a zone: until the zone has committed). */
  seq: number;
  /** Which model call of that event, from 0. */
  call: number;
}

/** One try at a provider. */
export interface CallAttempt {
  /** Fires when the attempt has to stop: time-out, the zone failed, the session was taken over, shutdown. */
  readonly signal: AbortSignal;
  /** From 1. */
  readonly attempt: number;
  readonly sessionId: string;
  /** The call's step key; with the session's id it names this call to the outside (request headers, records). */
  readonly callKey: string;
  readonly log: StepLog;
  /** Resolves at once, unless this process stood still: then once the session is certainly held here, if ever. */
  sure(): Promise<void>;
  /** Takes text as it is streamed; inside a zone it is kept as evidence until the zone commits, else ignored. */
  emit(text: string): void;
}

/** What a provider answered. */
export interface CallAnswer {
  response: LlmResponse;
  /** Absent only for a client of the user's own that knows nothing about it. */
  usage: Usage | undefined;
}

/** A model call to journal. */
export interface CallSpec {
  /** Name in the step key, e.g. "llm". */
  name: string;
  /** Explicit key in place of the occurrence. */
  key?: string;
  /** What the input digest covers: provider, model and the whole request as plain values. */
  input: unknown;
  /**
   * Builds the request's stored form, as a difference where it can (base, {@link TextRegistry.withReferences}).
   * Called once per call that is performed, when it is requested.
   */
  request(): LlmRequest;
  perform(attempt: CallAttempt): Promise<CallAnswer>;
  /** I1. */
  recorded?(answer: CallAnswer): void;
  /** The most that one attempt may use; budgets are held by it. Absent: nothing. */
  worst?: () => WorstCase;
  /** Usage of an attempt that threw; absent: none. */
  usageOf?(thrown: unknown): Usage | undefined;
  /** Attempts within this host. Default: the host's (outside a zone the step default, inside a zone 1). */
  retry?: RetryPolicy;
  /** Time for one attempt in ms. Default: none. */
  timeoutMs?: number;
  /** What the call touches outside; only kept outside a zone. */
  resources?: readonly Resource[];
}

/** The outcome of a model call, as it was read back from its stored bytes. */
export interface CallOutcome extends CallAnswer {
  place: RequestPlace;
  /** Its step key. */
  callKey: string;
}

/** Where model calls run: a session or a zone. */
export interface CallHost {
  readonly where: "session" | "zone";
  readonly sessionId: string;
  readonly rootId: string;
  /** The session's conversation. Inside a zone it can be read (as a base), not written. */
  readonly conversation: Conversation;
  readonly texts: TextRegistry;
  /** Requests a model call. Rejects with a StepError; never settles when the run is suspended. */
  call(spec: CallSpec): Promise<CallOutcome>;
  /**
   * Zones only: says that `value` is the whole final answer of the call recorded at `place`, so that a zone which
   * commits exactly this object stores a reference (`final_of`) instead of a copy.
   */
  noteFinal(value: object, place: RequestPlace): void;
}

/** The host outside a zone; it can open one. */
export interface SessionHost extends CallHost {
  /** Runs `body` in a zone of its own and commits what it returns, exactly as `ctx.zone` does. */
  zone<T>(
    name: string,
    options: { input?: unknown; retry?: RetryPolicy },
    body: (host: CallHost) => Promise<T>,
  ): Promise<T>;
}
