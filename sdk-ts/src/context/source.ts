/**
 * Asking the engine for a session's compacted context.
 *
 * Owns: the requests, how long they are tried. Never: judges what comes.
 *
 * Invariants:
 * - S1 losing the engine is waited for: nothing could be committed meanwhile anyhow.
 * - S2 whatever goes wrong for good (an older engine, a missing role) means that there is no context, never a failed step.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import { CellaflowError } from "../errors.js";
import {
  ContextService,
  type GetContextRequest,
  GetContextRequestSchema,
  type GetContextResponse,
} from "../gen/cellaflow/v1/context_pb.js";
import type { GrpcClient } from "../transport/grpc.js";
import type { Artefact } from "./choose.js";

/** The most that one request may wait for a context, in ms (the engine's `context_wait_ms_max`). */
export const WAIT_MS_MAX = 30_000;
/** Time for a request beside its waiting, in ms. */
const CALL_MS_MAX = 10_000;
/** How long an engine may be away, in ms. */
const AWAY_MS_MAX = 60_000;
const RETRY_MS = 200;

/** Answers for one session. */
export interface ContextSource {
  get(request: GetContextRequest, signal: AbortSignal): Promise<GetContextResponse>;
}

/** What is asked. */
export interface ContextAsk {
  sessionId: string;
  /** What the caller has of this session already: its blocks are left out of the answer. */
  known: Artefact | undefined;
  budget: number;
  /** Wait for a version that covers this event. */
  atLeastSeq?: number;
  waitMs?: number;
}

/** What was answered. */
export interface ContextAnswer {
  artefact: Artefact | undefined;
  /** No compactor works: waiting is no use. Why the last attempt came to nothing (`refused`) may hold no more by now. */
  hopeless: boolean;
}

/** Makes the source of an engine. */
export function contextSource(client: GrpcClient): ContextSource {
  return {
    get: (request, signal) => {
      const timeoutMs = Number(request.waitMs) + CALL_MS_MAX;
      return client.unary(ContextService.method.getContext, request, { timeoutMs, signal });
    },
  };
}

/** Asks for the newest version. */
export async function askFor(source: ContextSource, ask: ContextAsk, signal: AbortSignal): Promise<ContextAnswer> {
  const { known } = ask;
  const response = await again(() => source.get(requestOf(ask, known), signal), signal);
  if (response === undefined) return { artefact: undefined, hopeless: true };
  const hopeless = response.unattended;
  const { version } = response;
  if (version === undefined) return { artefact: undefined, hopeless };
  const isKnown = known !== undefined && Buffer.compare(known.hash, version.hash) === 0;
  if (isKnown) return { artefact: known, hopeless };
  // Folded anew since: the number is the same, the text is another.
  if (response.blocks.length === 0 && known !== undefined) {
    const whole = await askFor(source, { ...ask, known: undefined, waitMs: 0 }, signal);
    return { ...whole, hopeless };
  }
  return { artefact: artefactOf(response), hopeless };
}

function requestOf(ask: ContextAsk, known: Artefact | undefined): GetContextRequest {
  return create(GetContextRequestSchema, {
    sessionId: ask.sessionId,
    knownVersion: known?.version ?? 0,
    budgetTokens: BigInt(ask.budget),
    atLeastSeq: BigInt(ask.atLeastSeq ?? 0),
    waitMs: BigInt(Math.min(ask.waitMs ?? 0, WAIT_MS_MAX)),
  });
}

function artefactOf({ version, blocks }: GetContextResponse): Artefact | undefined {
  if (version === undefined || blocks.length === 0) return undefined;
  return {
    version: version.version,
    hash: version.hash,
    coversMessages: Number(version.coversMessages),
    coversSeq: Number(version.coversSeq),
    blocks: blocks.map(({ kind, text, tokens, breakpoint }) => ({ kind, text, tokens: Number(tokens), breakpoint })),
  };
}

/** Undefined: it failed for good (S2). */
async function again<T>(call: () => Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  for (const until = performance.now() + AWAY_MS_MAX; ; ) {
    try {
      return await call();
    } catch (error) {
      signal.throwIfAborted();
      const retryable = error instanceof CellaflowError && error.retryable;
      if (!retryable || performance.now() > until) return undefined;
      await sleep(RETRY_MS, undefined, { signal });
    }
  }
}
