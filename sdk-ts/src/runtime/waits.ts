/**
 * `ctx.sleep`, `ctx.signal`, `ctx.approval`: what workflow code waits for, and how it asks.
 *
 * Owns: their public types, the checks of their arguments. Never: waits.
 */
import type { StandardSchemaV1 } from "@standard-schema/spec";
import { MisuseError } from "../errors.js";
import { type ApprovalOutcome, ApprovalRequest, encodedCall } from "./approval.js";
import type { Request, RequestSpec } from "./request.js";
import type { Run } from "./run.js";
import { SignalRequest } from "./signal.js";
import { checkedMs, type SleepTime, TimerRequest, timerSpec } from "./timer.js";

/** Options common to all waits. */
export interface WaitOptions {
  /** Names the wait in its scope in place of its occurrence. */
  key?: string;
  /**
   * Drops the wait: its promise rejects with code `wait_dropped`, unless its outcome came before. A wait that lost a
   * race goes on until the session ends; drop it if it would take a signal that somebody else should have, or if a loop
   * leaves many behind (a session has at most 64 open ones; further ones queue).
   */
  signal?: AbortSignal;
}

/** Options of `ctx.signal`. */
export interface SignalOptions extends WaitOptions {
  /** How long to wait, in ms. The promise then resolves with undefined. Default: for ever. */
  timeoutMs?: number;
}

/** What is to be approved. */
export interface ApprovalOptions extends WaitOptions {
  /** What would be called, e.g. the name of a tool. Shown to the approver. */
  toolCall: string;
  /** What it would be called with. Shown to the approver; the decision is bound to a digest of both. */
  args: unknown;
  /** How long it may be decided, in ms. Default: for ever. */
  expiresIn?: number;
}

/** What a session can wait for without holding a worker. */
export interface Waits {
  /**
   * Waits for a time (ms, or `{ until }` a moment), from milliseconds to ten years. The engine keeps the timer; no worker
   * is held for it, and no crash or restart moves it.
   *
   * @throws MisuseError `invalid_wait_time` at once
   * @throws StepError `wait_dropped` when its AbortSignal dropped it
   */
  sleep(time: SleepTime, options?: WaitOptions): Promise<void>;
  /** The same under a name of its own, which its step key starts with (default: "sleep"). */
  sleep(name: string, time: SleepTime, options?: WaitOptions): Promise<void>;

  /**
   * Waits for a signal of this name and returns its value as the schema reads it. Signals that came before are kept (at
   * most 64 per session) and delivered first, in the order in which they were received; each is delivered once.
   *
   * @throws StepError `invalid_signal` when the value does not match the schema; the signal is used up
   * @throws StepError `wait_dropped` when its AbortSignal dropped it
   */
  signal<S extends StandardSchemaV1>(
    name: string,
    schema: S,
    options: SignalOptions & { timeoutMs: number },
  ): Promise<StandardSchemaV1.InferOutput<S> | undefined>;
  signal<S extends StandardSchemaV1>(
    name: string,
    schema: S,
    options?: WaitOptions & { timeoutMs?: undefined },
  ): Promise<StandardSchemaV1.InferOutput<S>>;

  /**
   * Asks a person or program whether a call may be made, and waits for the answer. It is not an error if they say no or
   * nobody answers in time: look at `decision`. Make the call with exactly these arguments, best in a guarded step.
   *
   * @throws StepError `wait_dropped` when its AbortSignal dropped it
   */
  approval(name: string, options: ApprovalOptions): Promise<ApprovalOutcome>;
}

/** What waits need of the ctx they belong to. */
export interface WaitHost {
  readonly run: Run;
  /** Refuses a call that must not be made here. */
  check(call: string): void;
  submit<T>(
    kind: RequestSpec["kind"],
    name: string,
    key: string | undefined,
    input: unknown,
    make: (spec: RequestSpec) => Request<T>,
  ): Promise<T>;
}

/** Makes the waits of a ctx. */
export function waitsOf(host: WaitHost): Waits {
  const sleep = (...args: unknown[]): Promise<void> => {
    host.check("sleep");
    const named = typeof args[0] === "string";
    const name = named ? (args[0] as string) : "sleep";
    const [time, options = {}] = (named ? args.slice(1) : args) as [SleepTime, WaitOptions?];
    const timer = timerSpec(name, time);
    return host.submit("timer", name, options.key, undefined, (spec) => {
      return new TimerRequest(host.run, spec, timer, options.signal);
    });
  };
  const signal = <T>(
    name: string,
    schema: StandardSchemaV1<unknown, T>,
    options: SignalOptions = {},
  ): Promise<T | undefined> => {
    host.check("signal");
    if (typeof schema?.["~standard"]?.validate !== "function") throw withoutSchema(name);
    const { timeoutMs } = options;
    const limit = timeoutMs === undefined ? undefined : checkedMs(`the wait for signal "${name}"`, timeoutMs);
    return host.submit("signal", name, options.key, undefined, (spec) => {
      return new SignalRequest<T>(host.run, spec, schema, limit, options.signal);
    });
  };
  const approval = (name: string, options: ApprovalOptions): Promise<ApprovalOutcome> => {
    host.check("approval");
    const { toolCall, args, expiresIn, key } = options;
    const limit = expiresIn === undefined ? undefined : checkedMs(`the approval "${name}"`, expiresIn);
    const call = { toolCall, args };
    const bytes = encodedCall(host.run, name, call);
    return host.submit("approval", name, key, call, (spec) => {
      return new ApprovalRequest(host.run, spec, bytes, limit, options.signal);
    });
  };
  return { sleep, signal, approval } as Waits;
}

function withoutSchema(name: string): MisuseError {
  return new MisuseError(
    "signal_without_schema",
    `the signal "${name}" has no schema, so anything could be sent to this code`,
    "pass a schema of any Standard Schema library, e.g. z.string()",
    { data: { signal: name } },
  );
}
