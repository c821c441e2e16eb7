/**
 * What a check prints.
 *
 * Owns: its words and its JSON. Never: judges.
 */
import type { CheckResult } from "../client/check.js";
import type { CellaflowError } from "../errors.js";

/** A session that could not be checked. */
export interface Unchecked {
  sessionId: string;
  error: CellaflowError;
}

/** Says it to a person. */
export function inWords(checked: CheckResult | Unchecked): string {
  if ("error" in checked) return `${checked.sessionId}  cannot be checked: ${checked.error.message}`;
  const { sessionId, workflow, version, codeVersion } = checked;
  const session = `${sessionId}  ${workflow}@${version}`;
  if (!checked.compatible) {
    const where = checked.stepKey === "" ? "its end" : `"${checked.stepKey}"`;
    return [
      `${session}  diverges from ${workflow}@${codeVersion} at ${where}`,
      `    recorded:  ${checked.recorded}`,
      `    requested: ${checked.requested}`,
    ].join("\n");
  }
  const line = `${session}  compatible with ${workflow}@${codeVersion}, ${after(checked)}`;
  if (checked.serves) return line;
  return `${line}\n    say so in the code, compatible: [${JSON.stringify(version)}], or its worker is not given the session`;
}

/** Says it to a program, in the spelling of the command line. */
export function asJson(checked: CheckResult | Unchecked): object {
  if ("error" in checked) {
    const { code, message } = checked.error;
    return { session_id: checked.sessionId, error: { code, message } };
  }
  const { sessionId, workflow, version, codeVersion, serves, seq } = checked;
  const session = { session_id: sessionId, workflow, version, code_version: codeVersion, serves, seq };
  if (checked.compatible) {
    const { outcomes, ended } = checked;
    return { ...session, compatible: true, outcomes, ended, next: ended ? [] : checked.next };
  }
  const { stepKey, recorded, requested } = checked;
  return { ...session, compatible: false, step_key: stepKey, recorded, requested };
}

/** Exit code, as the command line has them: 0 all is well, 1 something was found; else what kept us from looking. */
export function exitCode(all: readonly (CheckResult | Unchecked)[]): number {
  const errors = all.flatMap((one) => ("error" in one ? [one.error.code] : []));
  if (errors.includes("unavailable")) return 69;
  if (errors.includes("permission_denied") || errors.includes("unauthenticated")) return 77;
  return all.every((one) => !("error" in one) && one.compatible) ? 0 : 1;
}

function after(checked: CheckResult & { compatible: true }): string {
  const outcomes = `${checked.outcomes} outcome${checked.outcomes === 1 ? "" : "s"} as recorded`;
  if (checked.ended) return `${outcomes} and the same end`;
  return checked.next.length === 0 ? `${outcomes}, then it waits on` : `${outcomes}, then ${checked.next.join(", ")}`;
}
