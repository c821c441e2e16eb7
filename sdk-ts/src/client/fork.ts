/**
 * Time travel: a session as it was at any event, and forks that go on from there with something changed.
 *
 * Owns: `client.stateAt`, `client.fork`. Never: touches the session that is looked at or forked.
 *
 * Invariants:
 * - T1 what a session was at a seq follows from its events up to there alone, so it is the same whenever it is asked.
 * - T2 an edited outcome is stored in the form of the one that it stands for: an answer of a model as an answer.
 * - T3 one call makes one fork, however often it is repeated over lost connections.
 */
import { create } from "@bufbuild/protobuf";
import { CellaflowError } from "../errors.js";
import { type Failure, toFailure } from "../failure.js";
import {
  type LlmResponse,
  LlmResponseSchema,
  MessageSchema,
  PartSchema,
} from "../gen/cellaflow/content/v1/content_pb.js";
import { type Payload, PayloadFormat } from "../gen/cellaflow/v1/common_pb.js";
import type { Event } from "../gen/cellaflow/v1/event_pb.js";
import {
  type ForkEdit,
  ForkEditSchema,
  ForkSessionRequestSchema,
  GetSessionRequestSchema,
  SessionService,
} from "../gen/cellaflow/v1/session_pb.js";
import type { Message } from "../runtime/messages.js";
import { documentPayload, failurePayload, payloadDocument, valuePayload } from "../runtime/payloads.js";
import type { PayloadCodec } from "../values/hooks.js";
import { type CallOptions, type ClientCore, refOf, type SessionName } from "./core.js";
import { Outcomes, type StepOutcome } from "./outcomes.js";
import { Projection } from "./projection.js";
import { readEvents } from "./read.js";
import { sessionInfo } from "./session.js";

/** What a session was at one of its events. */
export interface SessionState {
  sessionId: string;
  /** Event that this is up to, and with. */
  seq: number;
  /** Ledger time of that event. */
  time: Date;
  /** What the session was started with. */
  input: unknown;
  /** `ctx.state`: values under their names. */
  state: Readonly<Record<string, unknown>>;
  /** `ctx.messages`, oldest first. */
  messages: readonly Message[];
  /** Outcomes of steps and zones, in ledger order. */
  outcomes: readonly StepOutcome[];
}

/** What is different in a fork; each step once. */
export type ForkEditInput =
  /** The session's input. What the fork inherited stays. */
  | { input: unknown }
  /** The output of a step or zone; of a model call, the text of the answer or a whole message. */
  | { step: string; output: unknown }
  /** The failure of a step or zone. */
  | { step: string; failure: Error | Failure };

/** How a session is forked. */
export interface ForkOptions extends CallOptions {
  /**
   * Last event that the fork has in common with the session. It is cut earlier where an edited step has its outcome
   * before, at the entry of a zone that was open, and before the end. Default: as much as that leaves.
   */
  fromSeq?: number;
  /** What is different; at most 64. Default: nothing. */
  edits?: readonly ForkEditInput[];
  /**
   * What becomes of guarded effects: "stubbed", they take the outcome that the lineage recorded under their step key, and
   * without one the fork pauses until somebody answers (`client.resolveStep`); "live", they are performed. Default:
   * "stubbed".
   */
  effects?: "stubbed" | "live";
  /** Names the fork. Default: none. */
  key?: string;
  /** Version the fork runs on. Default: the session's. */
  version?: string;
}

/** Reads what a session was at an event. @throws CellaflowError `session_not_found`, `invalid_argument` */
export async function stateAt(
  core: ClientCore,
  session: SessionName,
  seq: number,
  options: CallOptions = {},
): Promise<SessionState> {
  const { signal } = options;
  const found = await core.call(
    SessionService.method.getSession,
    create(GetSessionRequestSchema, { session: refOf(session) }),
    { signal },
  );
  const info = sessionInfo(found.session);
  if (!Number.isSafeInteger(seq) || seq < 1 || seq > info.seq) {
    throw new CellaflowError(
      "invalid_argument",
      `the session has events 1 to ${info.seq} and was asked for ${seq}`,
      "name one of those",
    );
  }
  const projection = new Projection(core.codec);
  const outcomes = new Outcomes(core.codec);
  for await (const event of readEvents(core, info.sessionId, { toSeq: seq, signal })) {
    projection.note(event);
    outcomes.note(event);
  }
  return {
    sessionId: info.sessionId,
    seq: projection.seq,
    time: outcomes.time,
    input: outcomes.input,
    state: projection.state(),
    messages: projection.messages(),
    outcomes: outcomes.list(),
  };
}

/** Forks a session. @throws CellaflowError `session_not_found`, `invalid_argument`, `key_conflict` */
export async function forkSession(
  core: ClientCore,
  session: SessionName,
  options: ForkOptions = {},
): Promise<{ sessionId: string; created: boolean }> {
  const { signal, edits = [] } = options;
  const recorded = await recordedFormats(core, session, edits, signal);
  const request = create(ForkSessionRequestSchema, {
    session: refOf(session),
    fromSeq: BigInt(options.fromSeq ?? 0),
    edits: edits.map((edit) => storedEdit(edit, recorded, core.codec)),
    effectsLive: options.effects === "live",
    key: options.key ?? "",
    version: options.version ?? "",
    dedupeId: crypto.getRandomValues(new Uint8Array(16)),
  });
  const forked = await core.call(SessionService.method.forkSession, core.seal(request), { signal });
  return { sessionId: sessionInfo(forked.session).sessionId, created: forked.created };
}

// T2: what the edited steps recorded, by step key.
async function recordedFormats(
  core: ClientCore,
  session: SessionName,
  edits: readonly ForkEditInput[],
  signal: AbortSignal | undefined,
): Promise<Map<string, Payload>> {
  const wanted = new Set(edits.flatMap((edit) => ("step" in edit && "output" in edit ? [edit.step] : [])));
  const found = new Map<string, Payload>();
  if (wanted.size === 0) return found;
  for await (const event of readEvents(core, session, { signal })) {
    const output = outputOf(event);
    if (output !== undefined && wanted.has(output.key)) found.set(output.key, output.payload);
  }
  return found;
}

function outputOf({ body }: Event): { key: string; payload: Payload } | undefined {
  if (body.case === "forkEdited" && body.value.edit.case === "output") {
    return { key: body.value.stepKey, payload: body.value.edit.value };
  }
  if (body.case !== "stepCompleted" || body.value.output === undefined) return undefined;
  return { key: body.value.stepKey, payload: body.value.output };
}

function storedEdit(edit: ForkEditInput, recorded: Map<string, Payload>, codec: PayloadCodec): ForkEdit {
  if ("input" in edit) {
    const value = valuePayload(codec.encode(edit.input, { kind: "input", name: "fork" }));
    return create(ForkEditSchema, { edit: { case: "input", value } });
  }
  if ("failure" in edit) {
    const failure = edit.failure instanceof Error ? toFailure(edit.failure) : edit.failure;
    return create(ForkEditSchema, { stepKey: edit.step, edit: { case: "failure", value: failurePayload(failure) } });
  }
  const before = recorded.get(edit.step);
  const value =
    before?.format === PayloadFormat.LLM_RESPONSE
      ? answerPayload(edit.output, payloadDocument(before, LlmResponseSchema), edit.step)
      : valuePayload(codec.encode(edit.output, { kind: "output", name: edit.step }));
  return create(ForkEditSchema, { stepKey: edit.step, edit: { case: "output", value } });
}

/** An answer that says something else than the recorded one. */
function answerPayload(output: unknown, before: LlmResponse, step: string): Payload {
  if (typeof output !== "string") {
    throw new CellaflowError("invalid_argument", `step "${step}" is a model call`, "give the text of its answer");
  }
  const parts = [create(PartSchema, { kind: { case: "text", value: output } })];
  const message = create(MessageSchema, { role: before.message?.role ?? "assistant", parts });
  const answer = create(LlmResponseSchema, { message, finishReason: "stop", model: before.model });
  return documentPayload(PayloadFormat.LLM_RESPONSE, LlmResponseSchema, answer);
}
