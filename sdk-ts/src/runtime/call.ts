/**
 * A model call outside a zone: one journaled step whose output is the answer.
 *
 * Owns: how a model call is stored as a step and read back. Never: talks to a provider (`llm/` does).
 */
import { create, fromBinary } from "@bufbuild/protobuf";
import { type LlmRequest, LlmRequestSchema, LlmResponseSchema } from "../gen/cellaflow/content/v1/content_pb.js";
import { type Payload, PayloadFormat, type Usage, UsageSchema } from "../gen/cellaflow/v1/common_pb.js";
import { type Event, LlmCallSchema, type StepCompleted } from "../gen/cellaflow/v1/event_pb.js";
import type { Attempt } from "./attempt.js";
import type { WorstCase } from "./budget.js";
import { asStep } from "./fork.js";
import type { CallAnswer, CallOutcome, CallSpec } from "./internals.js";
import { documentPayload, payloadBytes, payloadDocument } from "./payloads.js";
import type { RequestSpec } from "./request.js";
import type { Run } from "./run.js";
import { JournaledStep, type StoredOutput } from "./step.js";
import { textsOfMessage } from "./texts.js";

/** A model call of the session itself. */
export class CallRequest extends JournaledStep<CallOutcome, CallAnswer> {
  private request: LlmRequest | undefined;
  private paid: Usage | undefined;
  private logged = false;

  constructor(
    run: Run,
    spec: RequestSpec,
    private readonly call: CallSpec,
  ) {
    super(run, spec, { retry: call.retry, timeoutMs: call.timeoutMs, resources: call.resources });
  }

  override get usage(): readonly Usage[] {
    return this.paid === undefined ? [] : [this.paid];
  }

  override replay(event: Event): void {
    const body = asStep(event);
    if (body.case !== "stepCompleted") return;
    const response = fromBinary(LlmResponseSchema, payloadBytes(body.value.output));
    this.call.recorded?.({ response, usage: body.value.llm?.usage });
  }

  protected override perform(step: Attempt): Promise<CallAnswer> {
    this.request ??= this.call.request();
    const { sessionId } = this.run.settings.session;
    const { signal, attempt, log } = step;
    const sure = (): Promise<void> => new Promise((resolve) => this.run.whenSure(resolve));
    return this.call.perform({ signal, attempt, sessionId, callKey: this.spec.key, log, sure, emit: () => {} });
  }

  protected override store(answer: CallAnswer): StoredOutput {
    this.paid = answer.usage;
    const output = documentPayload(PayloadFormat.LLM_RESPONSE, LlmResponseSchema, answer.response);
    const llm = create(LlmCallSchema, { usage: answer.usage ?? create(UsageSchema) });
    if (this.request !== undefined) {
      llm.request = documentPayload(PayloadFormat.LLM_REQUEST, LlmRequestSchema, this.request);
    }
    return { output, llm, bytes: Number(output.sizeBytes + (llm.request?.sizeBytes ?? 0n)) };
  }

  protected override get worst(): (() => WorstCase) | undefined {
    return this.call.worst;
  }

  protected override usageOf(thrown: unknown): Usage | undefined {
    return this.call.usageOf?.(thrown);
  }

  protected override settle(output: Payload | undefined, completed: StepCompleted | undefined, seq: number) {
    const response = fromBinary(LlmResponseSchema, payloadBytes(output));
    const usage = completed === undefined ? this.paid : completed.llm?.usage;
    this.paid = usage;
    this.resolve({ response, usage, place: { seq, call: 0 }, callKey: this.spec.key });
    const request = completed === undefined ? this.request : payloadDocument(completed.llm?.request, LlmRequestSchema);
    return [...textsOfMessage(response.message), ...(request?.appended ?? []).flatMap(textsOfMessage)];
  }

  protected override committed(seq: number): void {
    if (this.logged) return;
    this.logged = true;
    this.run.telling.call(this.spec.key, this.spec.key, seq);
  }
}
