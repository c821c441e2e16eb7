/**
 * Messages of the worker channel: wrapping, encoding, the first ones of each side.
 *
 * Owns: their construction. Never: sends.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import {
  ChannelRequestSchema,
  HelloSchema,
  ServedWorkflowSchema,
  type Welcome,
  type WorkerMessage,
  WorkerMessageSchema,
} from "../gen/cellaflow/v1/worker_pb.js";
import { SDK_VERSION } from "../internal/version.js";
import type { EngineLimits } from "../runtime/journal.js";
import type { ServedWorkflow } from "../runtime/version.js";

/** What a worker says of itself first. */
export interface Opening {
  instance: string;
  workflows: readonly ServedWorkflow[];
  capacity: number;
  creditBytes: number;
  incarnation: string;
  namespace: string;
}

/** The first message of a stream. */
export function helloMessage(opening: Opening): WorkerMessage {
  const workflows = opening.workflows.map(({ name, versions, definitions }) =>
    create(ServedWorkflowSchema, {
      workflow: name,
      versions: [...versions],
      definitions: definitions.map(({ version, compatible }) => ({ version, compatible: [...compatible] })),
    }),
  );
  const { instance, capacity, incarnation, namespace } = opening;
  const creditBytes = BigInt(opening.creditBytes);
  const client = `sdk-ts/${SDK_VERSION}`;
  const value = create(HelloSchema, { instance, workflows, capacity, creditBytes, client, incarnation, namespace });
  return workerMessage({ case: "hello", value });
}

/** Encodes messages that are sent together. */
export function encodeRequest(messages: WorkerMessage[]): Uint8Array {
  return toBinary(ChannelRequestSchema, create(ChannelRequestSchema, { messages }));
}

/** Wraps a body. */
export function workerMessage(body: WorkerMessage["body"]): WorkerMessage {
  return create(WorkerMessageSchema, { body });
}

/** What the engine says of its limits. */
export function limitsOf(welcome: Welcome): EngineLimits {
  return {
    leaseTtlMs: Number(welcome.leaseTtlMs),
    guardAttemptMs: Number(welcome.guardAttemptMs),
    guardGraceMs: Number(welcome.guardGraceMs),
    payloadBytesMax: Number(welcome.payloadBytesMax),
    openMax: welcome.openMax,
    replayStallMsMax: Number(welcome.replayStallMsMax),
    evidenceBytesMax: Number(welcome.evidenceBytesMax),
    stepAttemptMs: welcome.stepAttemptMs === 0n ? undefined : Number(welcome.stepAttemptMs),
    retry: {
      attemptsMax: welcome.stepAttemptsMax,
      backoffInitialMs: Number(welcome.stepBackoffInitialMs),
      backoffMaxMs: Number(welcome.stepBackoffMaxMs),
      onExhausted: welcome.stepExhaustedPauses ? "pause" : "fail",
    },
  };
}
