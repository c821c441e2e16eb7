/**
 * The code that a check runs: the workflows that a user's module exports.
 *
 * Owns: loading them, choosing among versions. Never: runs one.
 */
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import type { Workflow } from "../runtime/workflow.js";
import type { PayloadHooks } from "../values/hooks.js";

/** What a module has. */
export interface Code {
  workflows: readonly Workflow[];
  /** Export `hooks`: what payloads are sealed with. */
  hooks: PayloadHooks | undefined;
}

/** A mistake in what was asked for. */
export class UsageError extends Error {}

/** Loads a module: every workflow it exports, one by one or in lists. @throws UsageError */
export async function loadCode(path: string): Promise<Code> {
  let exported: Record<string, unknown>;
  try {
    exported = (await import(pathToFileURL(resolve(path)).href)) as Record<string, unknown>;
  } catch (error) {
    throw new UsageError(`${path} cannot be loaded: ${error instanceof Error ? error.message : String(error)}`);
  }
  const workflows = new Set(Object.values(exported).flat().filter(isWorkflow));
  if (workflows.size === 0) throw new UsageError(`${path} exports no workflow; export what workflow(…) returns`);
  const { hooks } = exported;
  return { workflows: [...workflows], hooks: typeof hooks === "object" ? (hooks as PayloadHooks) : undefined };
}

/**
 * The code that is to be tried on a session: the one version that was asked for, else the only one that is not the
 * session's own, else the only one. @throws UsageError
 */
export function codeFor(code: Code, session: { workflow: string; version: string }, as?: string): Workflow {
  const all = code.workflows.filter(({ name }) => name === session.workflow);
  const asked = all.filter(({ version }) => as === undefined || version === as);
  const others = asked.filter(({ version }) => version !== session.version);
  const [found, ...more] = others.length > 0 ? others : asked;
  if (found !== undefined && more.length === 0) return found;
  const versions = all.map(({ version }) => version).join(", ");
  if (found !== undefined) throw new UsageError(`there are versions ${versions} of ${found.name}: name one with --as`);
  const what = as === undefined ? session.workflow : `${session.workflow}@${as}`;
  throw new UsageError(`the module exports no workflow ${what}${versions === "" ? "" : `, but versions ${versions}`}`);
}

function isWorkflow(value: unknown): value is Workflow {
  return typeof value === "object" && value !== null && "execute" in value && "compatible" in value;
}
