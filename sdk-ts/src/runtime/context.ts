/**
 * `ctx`: turns the calls of workflow code into requests of its run.
 *
 * Owns: keys, digests, the checks of misuse. Never: runs or settles a request.
 *
 * Invariants:
 * - X1 every call is checked before anything of it counts: a refused call is no request.
 * - X2 a request is made synchronously by its call, so that the order of requests is the order of the code.
 */
import { ContextRequest } from "../context/request.js";
import { settingsOf } from "../context/settings.js";
import type { ContextOptions, PromptContext } from "../context/types.js";
import { type Llm, runTools, sessionLlm, type ToolCall, type Tools, toMessage } from "../llm/index.js";
import { misuse } from "../misuse.js";
import type { Context, MapOptions, Messages, OpenZone, Zone, ZoneOptions } from "./api.js";
import type { SessionUsage } from "./budget.js";
import { CallRequest } from "./call.js";
import { type ContinueOptions, continued, continuedBytes } from "./continue.js";
import { GuardedStep } from "./guard.js";
import { guardWork, unguarded } from "./guard-work.js";
import { endKey } from "./history.js";
import { cleanupPath } from "./inside.js";
import type { CallHost, CallSpec, SessionHost } from "./internals.js";
import { KeyCounter, keyPart } from "./keys.js";
import { mapConcurrently } from "./map.js";
import type { Message } from "./messages.js";
import type { StepHandle, StepOptions } from "./options.js";
import type { Request, RequestSpec } from "./request.js";
import type { Run } from "./run.js";
import { Seeded } from "./seeded.js";
import {
  ChildEnd,
  type ChildHandle,
  checkSpawn,
  childHandle,
  childInput,
  type SpawnOptions,
  SpawnRequest,
  type WorkflowRef,
} from "./spawn.js";
import type { State } from "./state.js";
import { StepRequest } from "./step.js";
import { StepPromise } from "./step-promise.js";
import { type Waits, waitsOf } from "./waits.js";
import { ZoneRequest } from "./zone.js";
import type { ZoneAttempt } from "./zone-attempt.js";
import { openZone, zoneHost, zoneOf } from "./zone-context.js";

/** What all scopes of a run share. */
class Shared {
  readonly keys = new KeyCounter();
  private readonly seeds = new Map<string, Seeded>();

  constructor(readonly run: Run) {}

  seeded(path: string): Seeded {
    let seeded = this.seeds.get(path);
    if (seeded === undefined) {
      seeded = new Seeded(this.run.settings.session.rootId, path);
      this.seeds.set(path, seeded);
    }
    return seeded;
  }
}

/** Makes the ctx of a run. */
export function contextOf(run: Run): Context {
  return new RunContext(new Shared(run), "");
}

class RunContext implements Context {
  readonly messages: Messages;
  readonly llm: Llm;
  readonly sleep: Waits["sleep"];
  readonly signal: Waits["signal"];
  readonly approval: Waits["approval"];
  private readonly run: Run;
  /** Name of the zone that is open around the code of this ctx. */
  private opened: string | undefined;

  constructor(
    private readonly shared: Shared,
    private readonly ownPath: string,
  ) {
    this.run = shared.run;
    this.messages = messagesOf(this.run, (call) => this.check(call));
    this.llm = sessionLlm(this.host());
    const { sleep, signal, approval } = this.waits();
    this.sleep = sleep;
    this.signal = signal;
    this.approval = approval;
  }

  /** Path of the step keys; while a cleanup runs, everything it asks for lies below its own. */
  private get path(): string {
    const cleanup = this.run.cancellation.isDelivered ? cleanupPath(this.run) : undefined;
    return cleanup === undefined || this.ownPath.startsWith(cleanup) ? this.ownPath : cleanup + this.ownPath;
  }

  get sessionId(): string {
    return this.run.settings.session.sessionId;
  }

  get rootId(): string {
    return this.run.settings.session.rootId;
  }

  get state(): State {
    return this.run.state;
  }

  step<O, I = undefined>(
    name: string,
    fn: (input: I, step: StepHandle) => O | PromiseLike<O>,
    options: StepOptions<I, O> = {},
  ): Promise<O> {
    this.check("step");
    const input = options.input as I;
    const guarded = options.idempotencyKey !== undefined || options.effect === "guarded";
    if (guarded && options.input === undefined) throw misuse.guardedStepWithoutInput(name);
    const { reconcile, onUnknown, onInFlight } = options;
    if (!guarded && (reconcile ?? onUnknown ?? onInFlight) !== undefined) {
      throw unguarded(name);
    }
    const call = (step: StepHandle): O | PromiseLike<O> => fn(input, step);
    return this.submit("step", name, options.key, options.input, (spec) => {
      if (guarded)
        return new GuardedStep<O>(this.run, spec, guardWork(this.run.given.effects.root, spec, options, call));
      const { retry, timeoutMs, totalTimeoutMs, resources } = options;
      return new StepRequest<O>(this.run, spec, { retry, timeoutMs, totalTimeoutMs, resources }, call);
    });
  }

  scope<T>(key: string, fn: (ctx: Context) => T | PromiseLike<T>): Promise<T> {
    this.check("scope");
    const inner = new RunContext(this.shared, this.shared.keys.scope(this.path, key));
    return this.watched(`scope "${key}"`, (async () => fn(inner))());
  }

  map<T, R>(
    items: Iterable<T>,
    fn: (item: T, ctx: Context, index: number) => R | PromiseLike<R>,
    options: MapOptions<T> = {},
  ): Promise<R[]> {
    this.check("map");
    const path = `${this.shared.keys.next(this.path, options.name ?? "map")}/`;
    const list = [...items];
    const keys = list.map((item, index) => options.key?.(item, index) ?? String(index));
    const seen = new Set<string>();
    for (const key of keys) if (seen.size === seen.add(key).size) throw misuse.duplicateStepKey(key);
    const results = mapConcurrently(list, options.concurrency, async (item, index) => {
      const scope = new RunContext(this.shared, `${path}${keyPart("key", keys[index] ?? "")}/`);
      return fn(item, scope, index);
    });
    return this.watched("ctx.map", results);
  }

  zone<T>(name: string, body: (zone: Zone) => T | PromiseLike<T>, options: ZoneOptions = {}): Promise<T> {
    this.check("zone");
    return this.zoneRequest(name, options, (attempt) => body(zoneOf(attempt)), true).promise;
  }

  openZone(name: string, options: Pick<ZoneOptions, "input"> = {}): Promise<OpenZone> {
    this.check("openZone");
    const opened = openZone(
      (body, settled) => {
        const request = this.zoneRequest(name, { ...options, retry: { maxAttempts: 1 } }, body, false);
        this.opened = name;
        request.promise.then(settled.committed, settled.failed);
      },
      () => {
        this.opened = undefined;
      },
    );
    return this.watched(`zone "${name}"`, opened);
  }

  spawn<I, O>(workflow: WorkflowRef<I, O>, input: I, options: SpawnOptions = {}): ChildHandle<O> {
    this.check("spawn");
    const { run } = this;
    const payload = childInput(run, workflow?.name ?? "", input);
    checkSpawn(workflow, Number(payload.sizeBytes), run);
    const abandoned = options.onParentEnd === "abandon";
    const { name, version } = workflow;
    const work = { workflow: name, version, input: payload, abandoned };
    const make = (spec: RequestSpec): SpawnRequest => new SpawnRequest(run, spec, work);
    const spawn = this.request("child", options.name ?? name, options.key, input, make);
    const spec: RequestSpec = { ...spawn.spec, key: endKey(spawn.spec.key), input: undefined };
    const end = new ChildEnd<O>(run, spec, spawn);
    if (!run.isSuspended) void run.submit(end);
    return childHandle(run, spawn, end);
  }

  onCancel(cleanup: (ctx: Context) => unknown): () => void {
    this.check("onCancel");
    const path = this.shared.keys.scope(this.path, "onCancel");
    return this.run.cancellation.register(path, () => cleanup(new RunContext(this.shared, path)));
  }

  continueAs(input: unknown, options: ContinueOptions = {}): Promise<never> {
    this.check("continueAs");
    const { run } = this;
    const open = [...run.unobserved.values()];
    if (open.length > 0) throw misuse.continuedTooEarly(open);
    const value = continued(run, input, options);
    if (!run.isSuspended && !run.cancellation.isDelivered) run.ending.continued(value, continuedBytes(value));
    return run.cancellation.isDelivered ? run.cancellation.rejection() : new Promise<never>(() => {});
  }

  runTools(calls: readonly ToolCall[], tools: Tools): Promise<Message[]> {
    return runTools(this, calls, tools);
  }

  context(options: ContextOptions = {}): Promise<PromptContext> {
    this.check("context");
    const settings = settingsOf(options);
    return this.submit(
      "step",
      "context",
      options.key,
      undefined,
      (spec) => new ContextRequest(this.run, spec, settings),
    );
  }

  now(): number {
    this.check("now");
    return this.run.nowMs;
  }

  usage(): Promise<SessionUsage> {
    this.check("usage");
    return this.step("usage", () => this.run.budgets.usage);
  }

  random(): number {
    this.check("random");
    return this.shared.seeded(this.path).random();
  }

  uuid(): string {
    this.check("uuid");
    return this.shared.seeded(this.path).uuid();
  }

  resource<T>(name: string, acquire: (signal: AbortSignal) => T | PromiseLike<T>): Promise<T> {
    this.check("resource");
    return this.run.resources.get(name, acquire);
  }

  log(message: string, fields: Readonly<Record<string, unknown>> = {}): void {
    if (!this.run.isReplaying) this.run.settings.log("info", message, { sessionId: this.sessionId, ...fields });
  }

  // ---- inside ----

  private check(call: string): void {
    this.run.check(call);
    if (this.opened !== undefined) throw misuse.outerCtxInsideZone(call, this.opened);
  }

  private zoneRequest<T>(
    name: string,
    options: ZoneOptions,
    body: (attempt: ZoneAttempt) => T | PromiseLike<T>,
    callback: boolean,
  ): ZoneRequest<T> {
    return this.request("zone", name, undefined, options.input, (spec) => {
      return new ZoneRequest<T>(this.run, spec, { body, retry: options.retry, callback });
    });
  }

  private submit<T>(
    kind: RequestSpec["kind"],
    name: string,
    key: string | undefined,
    input: unknown,
    make: (spec: RequestSpec) => Request<T>,
  ): Promise<T> {
    return this.request(kind, name, key, input, make).promise;
  }

  private request<R extends Request<unknown>>(
    kind: RequestSpec["kind"],
    name: string,
    key: string | undefined,
    input: unknown,
    make: (spec: RequestSpec) => R,
  ): R {
    const digest = this.run.inputDigest.of(input);
    const stepKey = this.shared.keys.next(this.path, name, key);
    const cleanup = this.run.cancellation.isDelivered && cleanupPath(this.run) !== undefined;
    const request = make({ key: stepKey, name, kind, digest, input, after: this.run.after, cleanup });
    if (!this.run.isSuspended) void this.run.submit(request);
    return request;
  }

  private watched<T>(label: string, made: Promise<T>): Promise<T> {
    return StepPromise.from(made).watch(this.run.unobserved, label);
  }

  private waits(): Waits {
    return waitsOf({
      run: this.run,
      check: (call) => this.check(call),
      submit: (kind, name, key, input, make) => this.submit(kind, name, key, input, make),
    });
  }

  private host(): SessionHost {
    const { run } = this;
    return {
      where: "session",
      sessionId: run.settings.session.sessionId,
      rootId: run.settings.session.rootId,
      conversation: run.conversation,
      texts: run.texts,
      noteFinal: () => {},
      call: (spec: CallSpec) => {
        this.check("llm");
        return this.submit("step", spec.name, spec.key, spec.input, (step) => new CallRequest(run, step, spec));
      },
      zone: <T>(name: string, options: ZoneOptions, body: (host: CallHost) => Promise<T>) => {
        this.check("llm");
        return this.zoneRequest(name, options, (attempt) => body(zoneHost(attempt)), true).promise;
      },
    };
  }
}

function messagesOf(run: Run, check: (call: string) => void): Messages {
  return {
    push: (...messages) => {
      check("messages.push");
      for (const message of messages) run.conversation.push(toMessage(message));
    },
    get list() {
      return run.conversation.messages;
    },
    get length() {
      return run.conversation.length;
    },
  };
}
