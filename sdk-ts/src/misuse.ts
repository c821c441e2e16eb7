/**
 * The mistakes that are caught, each with the sentence that teaches the way out.
 *
 * Owns: codes and texts of misuse errors. Never: detects a misuse.
 */
import { MisuseError } from "./errors.js";

function list(names: readonly string[]): string {
  const shown = names.slice(0, 5).map((name) => `"${name}"`);
  return names.length > shown.length ? `${shown.join(", ")} and ${names.length - shown.length} more` : shown.join(", ");
}

/** One factory per misuse; the code of each error is stable. */
export const misuse = {
  /** `ctx` was used inside the function of a step, which is not replayed. */
  ctxInsideStep: (step: string, call: string): MisuseError =>
    new MisuseError(
      "ctx_inside_step",
      `ctx.${call} was called inside the function of step "${step}"`,
      "call it in the workflow itself, before or after the step, and pass what the step needs as its input",
      { data: { step, call } },
    ),

  /** The workflow returned while steps it had started were still open. */
  unawaitedSteps: (steps: readonly string[]): MisuseError =>
    new MisuseError(
      "unawaited_steps",
      `the workflow returned while these steps were still open: ${list(steps)}`,
      "await every step's promise (or Promise.all of them) before returning",
      { data: { steps: [...steps] } },
    ),

  /** The workflow continued as another session while steps it had started were still open. */
  continuedTooEarly: (steps: readonly string[]): MisuseError =>
    new MisuseError(
      "continued_too_early",
      `ctx.continueAs was called while nobody had awaited these: ${list(steps)}`,
      "await every step's promise (or Promise.all of them) before: its outcome would be lost",
      { data: { steps: [...steps] } },
    ),

  /** A guarded step has no input, so nothing would tell two different effects under one key apart. */
  guardedStepWithoutInput: (step: string): MisuseError =>
    new MisuseError(
      "guarded_step_without_input",
      `the guarded step "${step}" has no input`,
      "pass everything the effect depends on as { input }, so that a changed effect under the same key is noticed",
      { data: { step } },
    ),

  /** A guarded step was started inside a zone, whose effects may be rolled back. */
  guardedStepInZone: (step: string, zone: string): MisuseError =>
    new MisuseError(
      "guarded_step_in_zone",
      `the guarded step "${step}" was started inside zone "${zone}"`,
      "run it outside the zone, after the zone has committed: a zone that is rolled back could not take the effect back",
      { data: { step, zone } },
    ),

  /** The outer `ctx` was used inside a zone's callback. */
  outerCtxInsideZone: (call: string, zone: string): MisuseError =>
    new MisuseError(
      "outer_ctx_inside_zone",
      `ctx.${call} was called inside zone "${zone}"`,
      "use the zone's own argument there (zone.step, zone.llm, zone.state)",
      { data: { call, zone } },
    ),

  /** Two steps were given the same explicit key. */
  duplicateStepKey: (key: string): MisuseError =>
    new MisuseError(
      "duplicate_step_key",
      `two steps of this run have the explicit key "${key}"`,
      "give each its own key, or leave the key out and let name and occurrence tell them apart",
      { data: { key } },
    ),

  /** `ctx` was used after its run had ended. */
  ctxAfterEnd: (call: string): MisuseError =>
    new MisuseError(
      "ctx_after_end",
      `ctx.${call} was called after the run had ended`,
      "await everything the workflow starts before it returns",
      { data: { call } },
    ),

  /** A value did not pass the workflow's input or output schema. */
  invalidValue: (what: "input" | "output", workflow: string, issues: readonly string[]): MisuseError =>
    new MisuseError(
      what === "input" ? "invalid_input" : "invalid_output",
      `the ${what} of workflow "${workflow}" does not match its schema: ${issues.slice(0, 5).join("; ")}`,
      what === "input" ? "start it with a value that matches" : "return a value that matches, or change the schema",
      { data: { workflow, issues: [...issues] } },
    ),
} as const;
