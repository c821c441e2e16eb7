/** The audit agent in the kill matrix: once with a mail server that can be asked, once with one that cannot. */
import type { MatrixExample, MatrixRun, MatrixWorld, UnknownEffect } from "#sdk/matrix/example.js";
import { codeAudit } from "./workflow.js";

const audit = {
  workflows: [codeAudit],
  workflow: codeAudit,
  input: (world: MatrixWorld) => ({ repository: world.repository, model: "scripted-1", recipient: "team@example.com" }),
  script: new URL("./script.js", import.meta.url),
};

async function arrived(effect: UnknownEffect, { world }: MatrixRun): Promise<{ applied: unknown } | "notApplied"> {
  const messageId = `<report-${effect.rootId}@cellaflow.local>`;
  return (await world.mails(messageId)) > 0 ? { applied: { messageId } } : "notApplied";
}

export default [
  { ...audit, name: "code-audit", env: (world: MatrixWorld) => ({ SMTP_QUERY_URL: world.mailQueryUrl }) },
  { ...audit, name: "code-audit/nobody-knows", truth: arrived },
] satisfies MatrixExample<ReturnType<typeof audit.input>>[];
