/**
 * `ctx.continueAs`: what the successor of a session begins with.
 *
 * Owns: its input, state and conversation as payloads. Never: ends the session (`ending.ts`).
 *
 * Invariants:
 * - N1 what is handed over is whole: no reference to an event of this session, whose lineage is another one.
 * - N2 what is not replaced is carried as it stands at the call.
 */
import { create } from "@bufbuild/protobuf";
import { MisuseError } from "../errors.js";
import { ConversationDeltaSchema, type StateDelta, StateDeltaSchema } from "../gen/cellaflow/content/v1/content_pb.js";
import { PayloadFormat } from "../gen/cellaflow/v1/common_pb.js";
import { type SessionContinued, SessionContinuedSchema } from "../gen/cellaflow/v1/event_pb.js";
import { type MessageInput, toMessage } from "../llm/index.js";
import { tooLarge } from "./limits.js";
import { toStored } from "./messages.js";
import { documentPayload, valuePayload } from "./payloads.js";
import type { Run } from "./run.js";

/** Options of `ctx.continueAs`. */
export interface ContinueOptions {
  /** Version the successor runs with. Default: this session's. */
  version?: string;
  /** The state the successor begins with, in place of this session's. */
  state?: Readonly<Record<string, unknown>>;
  /** The conversation the successor begins with, in place of this session's: a compacted form of it, for example. */
  messages?: readonly MessageInput[];
}

/** Makes what is appended. @throws ValueError for what cannot be stored; CellaflowError `payload_too_large` */
export function continued(run: Run, input: unknown, options: ContinueOptions): SessionContinued {
  const { codec, session, limits } = run.settings;
  checkVersion(options.version);
  const value = create(SessionContinuedSchema, {
    input: valuePayload(codec.encode(input, { kind: "input", name: session.workflow })),
    version: options.version ?? "",
  });
  const state = stateOf(run, options.state);
  if (state.writes.length > 0) value.state = documentPayload(PayloadFormat.STATE_DELTA, StateDeltaSchema, state);
  const messages = options.messages?.map((message) => toStored(toMessage(message))) ?? run.conversation.stored;
  if (messages.length > 0) {
    const delta = create(ConversationDeltaSchema, { keep: 0, appended: [...messages] });
    value.conversation = documentPayload(PayloadFormat.CONVERSATION_DELTA, ConversationDeltaSchema, delta);
  }
  for (const [what, part] of Object.entries({ input: value.input, state: value.state, messages: value.conversation })) {
    const refused = tooLarge(Number(part?.sizeBytes ?? 0n), limits.payloadBytesMax, `continueAs: ${what}`);
    if (refused !== undefined) throw refused;
  }
  return value;
}

/** Size of its payloads in bytes. */
export function continuedBytes({ input, state, conversation }: SessionContinued): number {
  return [input, state, conversation].reduce((sum, part) => sum + Number(part?.sizeBytes ?? 0n), 0);
}

function stateOf(run: Run, replaced: ContinueOptions["state"]): StateDelta {
  if (replaced === undefined) return run.state.whole();
  const writes = Object.entries(replaced)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => ({ key, value: run.settings.codec.encode(value, { kind: "state", name: key }) }));
  return create(StateDeltaSchema, { writes });
}

function checkVersion(version: string | undefined): void {
  if (version === undefined) return;
  const bytes = typeof version === "string" ? Buffer.byteLength(version) : 0;
  if (bytes >= 1 && bytes <= 64) return;
  throw new MisuseError("invalid_workflow", `the version to continue with has ${bytes} bytes`, "use 1 to 64 bytes");
}
