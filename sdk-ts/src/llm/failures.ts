/**
 * What went wrong with a provider, as a StepError that says whether trying again may help.
 *
 * Owns: the codes of provider failures, and the usage of attempts that failed after they had cost something.
 * Never: retries.
 *
 * Codes: the provider's own where it sends one, else `http_<status>`; `provider_unreachable` (no answer at all),
 * `answer_interrupted` (it broke off), `incomplete_answer` (it ended without a finish reason), `malformed_answer`
 * (not the format), `invalid_output` (not the schema), `output_truncated` (JSON cut off at the token limit), `aborted`,
 * `no_api_key`.
 */
import type * as OpenAi from "openai";
import { type Failure, isRetryable, StepError, toFailure } from "../failure.js";
import type { Usage } from "../gen/cellaflow/v1/common_pb.js";

// Billing, not load: waiting does not help.
const HOPELESS_CODES = new Set(["insufficient_quota", "billing_hard_limit_reached", "billing_not_active"]);
const usages = new WeakMap<object, Usage>();

/** Makes a failure of a provider. */
export function providerFailure(
  code: string,
  message: string,
  options: { retryable: boolean; name?: string; data?: unknown; cause?: unknown },
): StepError {
  const failure: Failure = { name: options.name ?? "LlmError", code, message, retryable: options.retryable };
  if (options.data !== undefined) failure.data = options.data;
  if (options.cause !== undefined) failure.cause = toFailure(options.cause);
  return new StepError(failure);
}

/** Says what was paid for an attempt that failed. */
export function withUsage(error: StepError, usage: Usage): StepError {
  usages.set(error, usage);
  return error;
}

/** Returns what was paid for an attempt that threw this; undefined: nothing that is known. */
export function usageOf(thrown: unknown): Usage | undefined {
  return typeof thrown === "object" && thrown !== null ? usages.get(thrown) : undefined;
}

/**
 * Turns what the provider's client threw into a failure.
 *
 * @param openai the client's module, whose error classes tell failures apart
 * @param answering true once a part of the answer had arrived
 */
export function toProviderFailure(
  openai: typeof OpenAi,
  thrown: unknown,
  answering: boolean,
  signal: AbortSignal,
): StepError {
  if (thrown instanceof StepError) return thrown;
  if (signal.aborted || thrown instanceof openai.APIUserAbortError) return aborted(signal);
  if (thrown instanceof openai.APIConnectionTimeoutError) {
    return providerFailure("provider_unreachable", "the provider did not answer in time", { retryable: true });
  }
  if (thrown instanceof openai.APIConnectionError) {
    const cause = thrown.cause ?? thrown;
    return providerFailure("provider_unreachable", `the provider cannot be reached: ${reasonOf(cause)}`, {
      retryable: true,
      cause,
    });
  }
  if (thrown instanceof openai.APIError) return statusFailure(thrown);
  if (thrown instanceof SyntaxError) {
    return providerFailure("malformed_answer", "the provider's answer is not JSON", { retryable: true, cause: thrown });
  }
  const [code, what] = answering
    ? ["answer_interrupted", "the answer broke off"]
    : ["provider_unreachable", "the provider did not answer"];
  return providerFailure(code, `${what}: ${reasonOf(thrown)}`, { retryable: isRetryable(thrown), cause: thrown });
}

/** The failure of an attempt that was told to stop. */
export function aborted(signal: AbortSignal): StepError {
  return providerFailure("aborted", "the call was told to stop", { retryable: true, cause: signal.reason });
}

function statusFailure(error: OpenAi.APIError): StepError {
  const status: number | undefined = error.status;
  const code = typeof error.code === "string" && error.code !== "" ? error.code : `http_${status ?? "error"}`;
  const data: Record<string, unknown> = {};
  if (status !== undefined) data.status = status;
  if (typeof error.type === "string") data.type = error.type;
  if (typeof error.requestID === "string") data.requestId = error.requestID;
  const retryAfterMs = retryAfterOf(error.headers);
  if (retryAfterMs !== undefined) data.retryAfterMs = retryAfterMs;
  return providerFailure(code, error.message, {
    name: error.constructor.name,
    retryable: isWorthAnotherTry(error, status),
    data,
  });
}

function isWorthAnotherTry(error: OpenAi.APIError, status: number | undefined): boolean {
  if (HOPELESS_CODES.has(String(error.code)) || HOPELESS_CODES.has(String(error.type))) return false;
  const said = error.headers?.get("x-should-retry");
  if (said === "true" || said === "false") return said === "true";
  return isRetryable({ status });
}

/** Reads how long the provider asks to wait, in ms. */
export function retryAfterOf(headers: Headers | undefined): number | undefined {
  const ms = Number(headers?.get("retry-after-ms") ?? Number.NaN);
  if (Number.isFinite(ms)) return Math.max(0, ms);
  const after = headers?.get("retry-after");
  if (after === null || after === undefined) return undefined;
  const seconds = Number(after);
  const wait = Number.isFinite(seconds) ? seconds * 1_000 : Date.parse(after) - Date.now();
  return Number.isFinite(wait) ? Math.max(0, Math.round(wait)) : undefined;
}

function reasonOf(thrown: unknown): string {
  const { message, cause } = thrown as { message?: unknown; cause?: unknown };
  if (cause !== undefined && cause !== thrown && typeof cause === "object" && cause !== null) return reasonOf(cause);
  return typeof message === "string" && message !== "" ? message : String(thrown);
}
