/**
 * Would this code go on with that session? A dry run of a session's ledger (`client.check`).
 *
 * Owns: the question. Never: takes a lease, appends, or starts a step (`runtime/dry-run.ts`).
 *
 * Invariants:
 * - X1 a check leaves the ledger as it was, to the byte.
 * - X2 the code's own version and what it says to be compatible with change nothing in the verdict; `serves` says whether
 *   a worker with this code would be given the session.
 */
import { MisuseError } from "../errors.js";
import { type DryRunResult, dryRun } from "../runtime/dry-run.js";
import { serves } from "../runtime/version.js";
import type { Workflow } from "../runtime/workflow.js";
import type { PayloadHooks } from "../values/hooks.js";
import type { CallOptions, ClientCore, SessionName } from "./core.js";
import { ledgerOf } from "./ledger.js";

/** How a session is checked. */
export interface CheckOptions extends CallOptions {
  /** The code. */
  workflow: Workflow;
  /** Time in which code that stands still has to ask for what was recorded next, in ms. Default: 2,000. */
  stallMs?: number;
  /**
   * "standIn": `ctx.resource` acquires nothing, and code that uses a resource outside of steps cannot be checked.
   * "acquire": it acquires as in every replay. Default: "standIn".
   */
  resources?: "acquire" | "standIn";
}

/** What a check came to. */
export type CheckResult = DryRunResult & {
  sessionId: string;
  workflow: string;
  /** The version that the session is pinned to. */
  version: string;
  /** The version of the code. */
  codeVersion: string;
  /** A worker with this code would be given the session: its version is the code's, or among its `compatible`. */
  serves: boolean;
  /** The last event that was looked at. */
  seq: number;
};

/** @see Client.check */
export async function check(
  core: ClientCore,
  sessionId: string,
  options: CheckOptions & { hooks: PayloadHooks | undefined },
): Promise<CheckResult> {
  const { workflow, stallMs, hooks, resources = "standIn", signal } = options;
  const { ledger, session } = await ledgerOf(core.shared, sessionId, signal);
  if (session.workflow !== workflow.name) {
    const problem = `session ${sessionId} is of workflow "${session.workflow}", the code is of "${workflow.name}"`;
    throw new MisuseError("invalid_check", problem, "check it against code of its own workflow");
  }
  const result = await dryRun(ledger, workflow, {
    resources,
    ...(stallMs !== undefined && { stallMs }),
    ...(hooks !== undefined && { hooks }),
  });
  return {
    ...result,
    sessionId,
    workflow: session.workflow,
    version: session.version,
    codeVersion: workflow.version,
    serves: serves(workflow, session.version),
    seq: Number(ledger.events.at(-1)?.seq ?? 0),
  };
}

/** A session's id. */
export async function idOf(session: SessionName, find: () => Promise<{ sessionId: string }>): Promise<string> {
  return typeof session === "string" ? session : (await find()).sessionId;
}
