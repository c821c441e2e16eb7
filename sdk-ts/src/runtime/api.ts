/**
 * What workflow code works with: `ctx` and zones.
 *
 * Owns: the public types. Never: behaviour.
 */
import type { ContextOptions, PromptContext } from "../context/types.js";
import type { Llm, MessageInput, ToolCall, Tools } from "../llm/index.js";
import type { SessionUsage } from "./budget.js";
import type { ContinueOptions } from "./continue.js";
import type { Message } from "./messages.js";
import type { RetryPolicy, StepHandle, StepOptions } from "./options.js";
import type { ChildHandle, SpawnOptions, WorkflowRef } from "./spawn.js";
import type { State } from "./state.js";
import type { Waits } from "./waits.js";

/** The conversation of a session. Only workflow code adds to it; it is committed with the next event of the run. */
export interface Messages {
  /** Adds messages at the end, in full or as `{ role, content }`. Texts that the ledger has already (outputs, answers) are stored as references. */
  push(...messages: MessageInput[]): void;
  /** All messages, oldest first. Do not change them. */
  readonly list: readonly Message[];
  readonly length: number;
}

/** Options of `ctx.map`. */
export interface MapOptions<T> {
  /** Names each item's scope; the names must differ. Default: the item's index. */
  key?: (item: T, index: number) => string;
  /** How many items are worked on at a time. Default: all. */
  concurrency?: number;
  /** Names the map itself. Default: "map". */
  name?: string;
}

/** Options of a zone. */
export interface ZoneOptions {
  /** What the zone depends on. Its digest is compared on replay. */
  input?: unknown;
  /** How failed attempts of the whole zone are tried again. */
  retry?: RetryPolicy;
}

/** Options of a step inside a zone: those of an unguarded step. */
export type ZoneStepOptions<I = unknown> = Pick<StepOptions<I>, "input" | "key" | "retry" | "timeoutMs">;

/** The inside of a zone. Nothing of it is in the ledger until the zone commits as a whole. */
export interface Zone {
  /** Model calls of this zone; what they stream is kept as evidence until it commits. */
  readonly llm: Llm;
  /** Runs a step whose outcome is buffered. Guarded effects are refused. */
  step<O, I = undefined>(
    name: string,
    fn: (input: I, step: StepHandle) => O | PromiseLike<O>,
    options?: ZoneStepOptions<I>,
  ): Promise<O>;
  /** `ctx.state` with writes of the zone's own above it, which its commit applies and its failure forgets. */
  readonly state: State;
  /** Fires when the zone has to stop. */
  readonly signal: AbortSignal;
}

/** A zone around the code that follows: `await using zone = await ctx.openZone("name")`. */
export interface OpenZone extends Zone, AsyncDisposable {
  /**
   * Commits the zone with this value; resolves with the value as it was stored. Leaving the block without a commit is
   * a failed attempt.
   */
  commit<T>(value: T): Promise<T>;
}

/**
 * What workflow code works with. Its calls are journaled, or computed from the ledger, so that a run after a crash
 * sees the same outcomes in the same order. A promise of a run that is suspended (paused, fenced, shutting down)
 * stays unsettled; nothing is thrown into workflow code for that.
 */
export interface Context extends Waits {
  readonly sessionId: string;
  /** The session's root; the same in all forks of a session. */
  readonly rootId: string;

  /**
   * Runs `fn` and records its outcome; after a crash a recorded outcome is returned without running it.
   *
   * An unguarded step runs **at least once**: after a crash between its effect and its commit it runs again. A guarded
   * one (`idempotencyKey` or `effect: "guarded"`) is never started twice while its outcome is unknown.
   *
   * @throws StepError when it has failed: `{ name, code, message, retryable, data, cause }`
   * @throws MisuseError at once for a call that cannot work, e.g. inside another step
   */
  step<O, I = undefined>(
    name: string,
    fn: (input: I, step: StepHandle) => O | PromiseLike<O>,
    options?: StepOptions<I, O>,
  ): Promise<O>;

  /** Says what this session has used so far, its children not counted. Journaled as a step: a replay sees the same. */
  usage(): Promise<SessionUsage>;

  /** Runs `fn` with a ctx whose step keys start with `key`: branches that run at the same time keep apart. */
  scope<T>(key: string, fn: (ctx: Context) => T | PromiseLike<T>): Promise<T>;

  /** Works on all items, each in a scope of its own; resolves with the results in the items' order. */
  map<T, R>(
    items: Iterable<T>,
    fn: (item: T, ctx: Context, index: number) => R | PromiseLike<R>,
    options?: MapOptions<T>,
  ): Promise<R[]>;

  /** Runs `body` in a zone and commits what it returns, in one event with everything that happened inside. */
  zone<T>(name: string, body: (zone: Zone) => T | PromiseLike<T>, options?: ZoneOptions): Promise<T>;

  /**
   * Opens a zone around the code that follows; it is tried once. While it is open, this ctx refuses other requests
   * (branches that run at the same time need a `ctx.scope` of their own).
   *
   * @example
   * await using zone = await ctx.openZone("draft");
   * await zone.commit(await zone.step("write", write));
   */
  openZone(name: string, options?: Pick<ZoneOptions, "input">): Promise<OpenZone>;

  /** Model calls outside a zone. */
  readonly llm: Llm;
  /**
   * Starts a session of its own for another workflow: a child, run by whichever worker serves it. Its input and result
   * are copied by value. When this session ends or is cancelled, children that are open are asked to cancel and are
   * waited for, unless they were given `onParentEnd: "abandon"`.
   *
   * @example
   * const children = topics.map((topic) => ctx.spawn(research, { topic }));
   * const reports = await Promise.all(children.map((child) => child.result()));
   */
  spawn<I, O>(workflow: WorkflowRef<I, O>, input: I, options?: SpawnOptions): ChildHandle<O>;
  /**
   * Registers what runs when this session is cancelled: after the workflow's code has ended, begun guarded effects have
   * outcomes and children have ended; last registered first, one at a time. Its steps are journaled like any other.
   *
   * @returns a function that takes the registration back
   */
  onCancel(cleanup: (ctx: Context) => unknown): () => void;
  /**
   * Ends this session and starts its successor under the same key, with this input and a fresh history; `ctx.state` and
   * `ctx.messages` are carried over unless they are replaced. Never returns: nothing after it runs.
   *
   * @throws MisuseError `continued_too_early` while requests of this run are not awaited
   */
  continueAs(input: unknown, options?: ContinueOptions): Promise<never>;
  /**
   * Runs the tools a model asked for as parallel steps keyed by the calls' ids. A failed step, an unknown tool or wrong
   * arguments become a failed tool result for the model to read.
   *
   * @returns one message of role "tool" per call, in the calls' order, to push to the conversation
   */
  runTools(calls: readonly ToolCall[], tools: Tools): Promise<Message[]>;
  readonly state: State;
  readonly messages: Messages;
  /**
   * Returns the conversation in a form that fits a budget of tokens: whole, or compacted with the newest messages as they
   * are. Journaled as a step: a replay sees the same messages without asking anybody.
   *
   * @throws MisuseError `invalid_context` at once for options that cannot be
   * @throws StepError `context_budget` if the leading system messages leave no room
   * @example
   * const { messages } = await ctx.context({ budget: 32_000 });
   * const answer = await ctx.llm.generate(model, { messages, tools: { ...contextTools, ...tools } });
   */
  context(options?: ContextOptions): Promise<PromptContext>;

  /**
   * Ledger time of the last outcome delivered, in ms since the Unix epoch; the same on replay. Read it right after an
   * awaited `ctx` call: after I/O of your own, other steps' outcomes may have come in between, or not.
   */
  now(): number;
  /** A random number in [0, 1); the same on replay. Not for secrets. */
  random(): number;
  /** A random UUID (version 4); the same on replay. Not for secrets. */
  uuid(): string;

  /**
   * Returns something that lives on this machine only (a clone, a browser): acquired once per process that runs the
   * session, never journaled, disposed of (`Symbol.asyncDispose`, `Symbol.dispose`) when the run is over.
   */
  resource<T>(name: string, acquire: (signal: AbortSignal) => T | PromiseLike<T>): Promise<T>;

  /** Writes to the worker's log; silent while recorded outcomes are replayed. */
  log(message: string, fields?: Readonly<Record<string, unknown>>): void;
}
