/**
 * The most that a model call may cost.
 *
 * Owns: the upper estimate of tokens. Never: knows what is left of a budget.
 *
 * Invariant: a request counts with a token for every two bytes, which no tokenizer of text reaches, and its answer with
 * the most tokens it may have.
 */
import type { WorstCase } from "../runtime/budget.js";
import { costOf } from "./usage.js";

/** UTF-8 bytes of a request that count as one token at most. */
const BYTES_PER_TOKEN_MIN = 2;
/** Output tokens of a request that names no limit. */
export const OUTPUT_TOKENS_DEFAULT = 32_768;

/** Returns the most that a request may use. @param maxTokens output tokens it allows; undefined: not said */
export function worstCaseOf(
  provider: string,
  model: string,
  request: unknown,
  maxTokens: number | undefined,
): WorstCase {
  const input = Math.ceil(Buffer.byteLength(JSON.stringify(request) ?? "", "utf8") / BYTES_PER_TOKEN_MIN);
  const outputTokens = maxTokens ?? OUTPUT_TOKENS_DEFAULT;
  const none = { inputTokens: 0, cachedReadTokens: 0, cacheWriteTokens: 0, outputTokens };
  const plain = costOf(provider, model, { ...none, inputTokens: input });
  const cached = costOf(provider, model, { ...none, cacheWriteTokens: input });
  const costNanos = plain === undefined || cached === undefined || plain > cached ? plain : cached;
  return { costNanos, tokens: input + outputTokens };
}

/** Reads the limit on output tokens from a request of any client. */
export function maxTokensOf(request: unknown): number | undefined {
  if (typeof request !== "object" || request === null) return undefined;
  const fields = request as Record<string, unknown>;
  for (const field of ["maxTokens", "max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens"]) {
    const value = fields[field];
    if (typeof value === "number" && Number.isSafeInteger(value) && value > 0) return value;
  }
  return undefined;
}
