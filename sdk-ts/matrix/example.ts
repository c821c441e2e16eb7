/**
 * What `make kill-matrix` has to know of an example to kill it everywhere: each example has a `matrix.ts` whose default
 * export is a {@link MatrixExample}, or a list of them (the same code in several circumstances).
 *
 * The harness runs the example once undisturbed. Every event of that run, in every session of its tree, is a place to
 * kill at; then there is one run for each place and each of {worker, engine, both, worker stopped and continued}. A run
 * is judged by comparing it with the undisturbed one: outputs, `ctx.state`, conversation, and what independent servers
 * counted. So an example must come to the same result in every run: nothing random, nothing that depends on how long
 * something took. Session ids and the run's own name are compared as placeholders; what else must differ is taken out
 * by {@link MatrixExample.normalise}.
 *
 * Keep it small and quick: every event means four runs. A few hundred milliseconds of timers are plenty.
 */
import type { Client, SessionInfo, StartOptions, Workflow } from "@cellaflow/sdk";

/** The world that the harness keeps up while workers and engines die: each server is a process of its own. */
export interface MatrixWorld {
  /** OpenAI-compatible model, answering with the example's script; workers have it as `OPENAI_BASE_URL`. */
  readonly modelUrl: string;
  /** Counting server (`POST /charge`, header `idempotency-key`); workers have it as `CHARGE_URL`. */
  readonly chargeUrl: string;
  /** Mail server; workers have it as `SMTP_URL`. */
  readonly smtpUrl: string;
  /** Where the mail server can be asked (`/delivered?message_id=`); workers do not have it unless `env` says so. */
  readonly mailQueryUrl: string;
  /** A small git repository. */
  readonly repository: string;
  /** How often the counting server charged a key. */
  charges(idempotencyKey: string): Promise<number>;
  /** How often the mail server delivered a Message-ID. */
  mails(messageId: string): Promise<number>;
}

/** One run of an example. */
export interface MatrixRun {
  readonly client: Client;
  readonly world: MatrixWorld;
  /** The session's key, unique among all runs. */
  readonly key: string;
  /** The first session. */
  readonly sessionId: string;
}

/** An event as outside actors see it. */
export interface SeenEvent {
  seq: number;
  /** For example "signalAwaited", "approvalRequested". */
  kind: string;
  /** Step or zone key; empty: none. */
  key: string;
}

/** A session that an outside actor may do something about. */
export interface SeenSession {
  /** As the engine shows it now; its `sessionId` tells the sessions of a tree apart. */
  info: SessionInfo;
  /** What its ledger has so far. */
  events: readonly SeenEvent[];
}

/** A guarded step whose outcome nobody knows; its session is paused. */
export interface UnknownEffect {
  sessionId: string;
  rootId: string;
  stepKey: string;
}

/** An example in the kill matrix. `Input` is the workflow's. */
export interface MatrixExample<Input = unknown> {
  /** Shown, and chosen with `--example`: the folder's name, with `/variant` if there are several. */
  name: string;
  /** What the workers serve, children included. */
  workflows: readonly Workflow[];
  /** The workflow that is started. */
  workflow: Workflow<Input>;
  /** Its input in the run with this key. */
  input(world: MatrixWorld, key: string): Input;
  /** How it is started beside the key: budgets, labels, … Default: nothing. */
  start?: Omit<StartOptions, "key" | "signal">;
  /** Module whose default export is a `Script`: what the model answers. Default: an echo of the last message. */
  script?: URL;
  /** A compactor works beside the engine; it is never hit itself. Default: false. */
  compactor?: boolean;
  /** More environment for the workers. */
  env?(world: MatrixWorld): Record<string, string>;
  /**
   * Does what people and other programs do: signals, decides, cancels, raises a budget, resumes, forks.
   *
   * Called soon after something happened to a session of the run, and a few times a second while nothing does;
   * so it must be idempotent: signal with an id, decide what may be decided already. What it throws is tried again.
   * Sessions paused for an unknown effect are not its business, see {@link truth}.
   *
   * @returns ids of sessions beside the tree that belong to this run from now on (forks); they must end, too
   */
  outside?(session: SeenSession, run: MatrixRun): Promise<undefined | readonly string[]>;
  /**
   * What really became of a guarded step's effect, asked of the server that made it. Needed where a guarded step's
   * policy is to pause.
   */
  truth?(effect: UnknownEffect, run: MatrixRun): Promise<{ applied: unknown } | "notApplied">;
  /** Removes from a session's outputs, state or conversation what may differ between runs. Default: nothing. */
  normalise?(value: unknown): unknown;
  /** Pauses for a nondeterminism are meant, and `outside` repairs them. Default: false, such a pause fails the run. */
  diverges?: boolean;
  /** How the first session must end. Default: "completed". */
  ends?: "completed" | "failed" | "cancelled";
}

/**
 * An example whose processes are programs of its own instead of workers, started again whenever they end before the
 * session does.
 */
export interface MatrixProgram extends Omit<MatrixExample<never>, "workflows" | "workflow" | "input" | "start"> {
  /** The compiled program and its arguments. */
  program: URL;
  args(world: MatrixWorld, key: string): readonly string[];
  /** Names the session that the program runs. */
  session(world: MatrixWorld, key: string): { workflow: string; key: string };
}
