/**
 * The options of `ctx.context` with their defaults.
 *
 * Owns: defaults and limits. Never: behaviour.
 */
import { MisuseError } from "../errors.js";
import { jsonSchemaOf } from "../llm/schema.js";
import { WAIT_MS_MAX } from "./source.js";
import type { ContextOptions } from "./types.js";

/** Tokens that the messages may have. */
export const BUDGET_TOKENS_DEFAULT = 32_000;
/** With less nothing useful could be said. */
export const BUDGET_TOKENS_MIN = 256;
/** How long to wait for a compacted context, in ms. */
export const WAIT_MS_DEFAULT = 2_000;

/** The options, checked. */
export interface Settings {
  budget: number;
  waitMs: number;
  /** What every prompt begins with, as text; empty: not known. */
  base: string;
}

/** @throws MisuseError `invalid_context` */
export function settingsOf(options: ContextOptions): Settings {
  const { budget = BUDGET_TOKENS_DEFAULT, waitMs = WAIT_MS_DEFAULT, system = "", tools = {} } = options;
  check("budget", budget, BUDGET_TOKENS_MIN, Number.MAX_SAFE_INTEGER);
  check("waitMs", waitMs, 0, WAIT_MS_MAX);
  const defined = Object.entries(tools).map(([name, { description, parameters }]) =>
    JSON.stringify({ name, description, parameters: jsonSchemaOf(parameters, `tool "${name}"`) }),
  );
  return { budget, waitMs, base: [system, ...defined].join("\n").trim() };
}

function check(name: string, value: number, min: number, max: number): void {
  if (Number.isSafeInteger(value) && value >= min && value <= max) return;
  const range = max === Number.MAX_SAFE_INTEGER ? `${min} or more` : `${min} to ${max}`;
  throw new MisuseError("invalid_context", `ctx.context was given ${name}: ${value}`, `pass a whole number, ${range}`);
}
