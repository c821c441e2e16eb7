/**
 * A recorded use of a context, as clients show it.
 *
 * Owns: what of the document is shown. Never: rebuilds the prompt, for which the conversation is needed (`prompt.ts`).
 */
import { ContextSource, type ContextUsed, ContextUsedSchema } from "../gen/cellaflow/content/v1/content_pb.js";
import type { Payload } from "../gen/cellaflow/v1/common_pb.js";
import { payloadDocument } from "../runtime/payloads.js";

/** What `ctx.context` came to. */
export interface UsedContext {
  source: "raw" | "ccs" | "window";
  /** Version of the compacted context; 0: none. */
  version: number;
  budgetTokens: number;
  tokens: number;
  /** Tokens of the whole conversation. */
  rawTokens: number;
  /** Tokens of what every prompt begins with (the options `system` and `tools`); 0: not known. */
  baseTokens: number;
  /** Tokens of the longest prefix that it has in common with the one before. */
  sharedTokens: number;
  /** How long a newer version was waited for, in ms. */
  waitedMs: number;
  /** No version was ready that fits. */
  fallback: boolean;
}

const NAMES = {
  [ContextSource.UNSPECIFIED]: "raw",
  [ContextSource.RAW]: "raw",
  [ContextSource.CCS]: "ccs",
  [ContextSource.WINDOW]: "window",
} as const;

/** Reads a payload of format CONTEXT. */
export function usedContext(payload: Payload): UsedContext {
  return shownContext(payloadDocument(payload, ContextUsedSchema));
}

/** Returns what is shown of a document. */
export function shownContext(used: ContextUsed): UsedContext {
  return {
    source: NAMES[used.source],
    version: used.version,
    budgetTokens: Number(used.budgetTokens),
    tokens: Number(used.tokens),
    rawTokens: Number(used.rawTokens),
    baseTokens: Number(used.baseTokens),
    sharedTokens: Number(used.sharedTokens),
    waitedMs: Number(used.waitedMs),
    fallback: used.fallback,
  };
}
