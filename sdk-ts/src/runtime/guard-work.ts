/**
 * How a guarded step works: the options of its caller, checked.
 *
 * Owns: the checks and defaults. Never: runs anything.
 */
import { MisuseError } from "../errors.js";
import type { Finding, Resource, RetryPolicy, StepHandle, StepOptions } from "./options.js";
import type { RequestSpec } from "./request.js";

/** How a guarded step works. */
export interface GuardWork<T> {
  fn: (step: StepHandle) => T | PromiseLike<T>;
  reconcile: ((step: StepHandle) => Finding<T> | PromiseLike<Finding<T>>) | undefined;
  policy: "pause" | "fail" | "retry" | "reconcile";
  idempotencyKey: string;
  /** While another step or session has the key in flight. */
  onInFlight: "wait" | "fail";
  retry: RetryPolicy | undefined;
  timeoutMs: number | undefined;
  totalTimeoutMs: number | undefined;
  resources: readonly Resource[] | undefined;
}

/** Makes it of a step's options; `fn` calls the tool. @throws MisuseError for options that do not go together */
export function guardWork<I, O>(
  rootId: string,
  spec: RequestSpec,
  options: StepOptions<I, O>,
  fn: GuardWork<O>["fn"],
): GuardWork<O> {
  const {
    reconcile,
    onUnknown,
    idempotencyKey,
    onInFlight = "wait",
    retry,
    timeoutMs,
    totalTimeoutMs,
    resources,
  } = options;
  const policy = onUnknown ?? (reconcile === undefined ? "pause" : "reconcile");
  if (policy === "reconcile" && reconcile === undefined) throw withoutReconcile(spec.name);
  return {
    fn,
    reconcile: reconcile === undefined ? undefined : (step) => reconcile(options.input as I, step),
    policy,
    idempotencyKey: checkKey(spec.name, idempotencyKey ?? `${rootId}/${spec.key}`),
    onInFlight,
    retry,
    timeoutMs,
    totalTimeoutMs,
    resources,
  };
}

function checkKey(step: string, key: string): string {
  const bytes = Buffer.byteLength(key);
  if (bytes >= 1 && bytes <= 512) return key;
  const problem = `the idempotency key of step "${step}" has ${bytes} bytes`;
  throw new MisuseError("invalid_idempotency_key", problem, "use 1 to 512 bytes, e.g. a hash", { data: { step } });
}

/** Options that only a guarded step has. */
export function unguarded(step: string): MisuseError {
  return new MisuseError(
    "step_not_guarded",
    `step "${step}" has onUnknown, reconcile or onInFlight but is not guarded, so its outcome is never unknown`,
    'add an idempotencyKey or effect: "guarded", or leave them out',
    { data: { step } },
  );
}

function withoutReconcile(step: string): MisuseError {
  return new MisuseError(
    "guarded_step_without_reconcile",
    `step "${step}" has onUnknown: "reconcile" but no reconcile function`,
    "pass { reconcile }, which asks the outside whether the effect happened",
    { data: { step } },
  );
}
