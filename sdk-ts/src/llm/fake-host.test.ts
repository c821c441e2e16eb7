/**
 * A host of model calls without an engine, for the tests of this folder: it journals to memory and replays from it.
 * It keeps the seam's rules (`runtime/internals.ts`): answers are read back from bytes, recorded calls never perform.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  ConversationDeltaSchema,
  type LlmRequest,
  LlmRequestSchema,
  LlmResponseSchema,
} from "../gen/cellaflow/content/v1/content_pb.js";
import type { Usage } from "../gen/cellaflow/v1/common_pb.js";
import { Conversation } from "../runtime/conversation.js";
import type { CallHost, CallOutcome, CallSpec, RequestPlace, SessionHost } from "../runtime/internals.js";
import type { Message } from "../runtime/messages.js";
import type { StepHandle, StepOptions } from "../runtime/options.js";
import { TextRegistry, textsOfMessage } from "../runtime/texts.js";
import { canonicalDigest } from "../values/canonical.js";

const RETRIES = 3;

/** One recorded call. */
export interface RecordedCall {
  key: string;
  seq: number;
  call: number;
  digest: string;
  request: LlmRequest;
  requestBytes: number;
  response: Uint8Array;
  usage: Usage | undefined;
}

/** What was journaled. */
export class FakeLedger {
  readonly calls: RecordedCall[] = [];
  readonly failures: { key: string; error: unknown; usage: Usage | undefined }[] = [];
  readonly deltas = new Map<number, Uint8Array>();
  readonly finals: object[] = [];
  seq = 0;

  /** The texts of an event in the order in which they are counted. */
  textsAt(seq: number): (string | undefined)[] {
    const bytes = this.deltas.get(seq);
    const appended = bytes === undefined ? [] : fromBinary(ConversationDeltaSchema, bytes).appended;
    const texts = appended.flatMap(textsOfMessage);
    for (const call of this.calls.filter((one) => one.seq === seq)) {
      texts.push(...textsOfMessage(fromBinary(LlmResponseSchema, call.response).message));
      texts.push(...call.request.appended.flatMap(textsOfMessage));
    }
    return texts;
  }

  find(key: string): RecordedCall | undefined {
    return this.calls.find((call) => call.key === key);
  }
}

/** A run over a ledger. */
export class FakeRun {
  readonly texts = new TextRegistry();
  readonly conversation = new Conversation(this.texts);
  performed = 0;
  deltaBytes = 0;
  readonly evidence: string[] = [];
  private readonly counts = new Map<string, number>();

  constructor(readonly ledger = new FakeLedger()) {}

  get session(): SessionHost {
    return {
      ...this.host("session", ""),
      zone: (name, options, body) => this.zone(name, options.retry?.maxAttempts ?? RETRIES, body),
    };
  }

  push(message: Message): void {
    this.conversation.push(message);
  }

  /** A stand-in for `ctx.step`. */
  readonly steps: { name: string; options: StepOptions<never, never> }[] = [];
  readonly toolHost = {
    step: async <I, O>(
      name: string,
      fn: (input: I, step: StepHandle) => O | Promise<O>,
      options: StepOptions<I, O>,
    ) => {
      this.steps.push({ name, options: options as unknown as StepOptions<never, never> });
      await nextTurn();
      return await fn(options.input as I, { signal: new AbortController().signal, attempt: 1 } as StepHandle);
    },
  };

  private host(
    where: "session" | "zone",
    scope: string,
    buffered?: (RecordedCall & { place: RequestPlace })[],
  ): CallHost {
    return {
      where,
      sessionId: "session-1",
      rootId: "session-1",
      conversation: this.conversation,
      texts: this.texts,
      call: (spec) => this.call(spec, this.keyOf(scope, spec), where, buffered),
      noteFinal: (value) => void this.ledger.finals.push(value),
    };
  }

  private keyOf(scope: string, spec: { name: string; key?: string }): string {
    if (spec.key !== undefined) return `${scope}${spec.name}@${spec.key}`;
    const count = (this.counts.get(scope + spec.name) ?? 0) + 1;
    this.counts.set(scope + spec.name, count);
    return `${scope}${spec.name}#${count}`;
  }

  private async call(
    spec: CallSpec,
    key: string,
    where: "session" | "zone",
    buffered?: (RecordedCall & { place: RequestPlace })[],
  ): Promise<CallOutcome> {
    const digest = Buffer.from(canonicalDigest(spec.input)).toString("hex");
    const known = this.ledger.find(key);
    if (known !== undefined) {
      if (known.digest !== digest) throw new Error(`nondeterminism at ${key}`);
      const { response, usage } = known;
      spec.recorded?.({ response: fromBinary(LlmResponseSchema, response), usage });
      await nextTurn();
      this.texts.record(known.seq, this.ledger.textsAt(known.seq));
      const { seq, call } = known;
      return { response: fromBinary(LlmResponseSchema, response), usage, place: { seq, call }, callKey: key };
    }
    const request = toBinary(LlmRequestSchema, spec.request());
    const answer = await this.attempts(spec, key, spec.retry?.maxAttempts ?? (where === "zone" ? 1 : RETRIES));
    const place: RequestPlace = { seq: 0, call: buffered?.length ?? 0 };
    const recorded = {
      key,
      ...place,
      digest,
      request: fromBinary(LlmRequestSchema, request),
      requestBytes: request.length,
      response: toBinary(LlmResponseSchema, answer.response),
      usage: answer.usage,
      place,
    };
    if (buffered === undefined) this.commit([recorded]);
    else buffered.push(recorded);
    await nextTurn();
    return { response: fromBinary(LlmResponseSchema, recorded.response), usage: answer.usage, place, callKey: key };
  }

  private async attempts(spec: CallSpec, key: string, max: number) {
    for (let attempt = 1; ; attempt++) {
      this.performed += 1;
      try {
        return await spec.perform({
          signal: new AbortController().signal,
          attempt,
          sessionId: "session-1",
          callKey: key,
          log: () => undefined,
          sure: async () => undefined,
          emit: (text) => void this.evidence.push(text),
        });
      } catch (error) {
        this.ledger.failures.push({ key, error, usage: spec.usageOf?.(error) });
        if (attempt >= max || (error as { retryable?: boolean }).retryable === false) throw error;
      }
    }
  }

  private async zone<T>(name: string, max: number, body: (host: CallHost) => Promise<T>): Promise<T> {
    const scope = `${this.keyOf("", { name })}/`;
    for (let attempt = 1; ; attempt++) {
      this.counts.delete(scope + name);
      const buffered: (RecordedCall & { place: RequestPlace })[] = [];
      try {
        const value = await body(this.host("zone", scope, buffered));
        if (buffered.length > 0) this.commit(buffered);
        return value;
      } catch (error) {
        if (attempt >= max || (error as { retryable?: boolean }).retryable === false) throw error;
      }
    }
  }

  private commit(calls: (RecordedCall & { place: RequestPlace })[]): void {
    this.ledger.seq += 1;
    const pending = this.conversation.takeDelta();
    if (pending !== undefined) {
      const bytes = toBinary(ConversationDeltaSchema, pending.delta);
      this.deltaBytes += bytes.length;
      this.ledger.deltas.set(this.ledger.seq, bytes);
    }
    for (const call of calls) {
      call.seq = this.ledger.seq;
      call.place.seq = this.ledger.seq;
      this.ledger.calls.push(call);
    }
    this.texts.record(this.ledger.seq, this.ledger.textsAt(this.ledger.seq));
  }
}
