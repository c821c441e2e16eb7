/** An agent that audits a repository, fixes one thing and mails the report. It can be killed anywhere. */
import { StepError, textOf, tool, workflow } from "@cellaflow/sdk";
import { z } from "zod";
import { Checkout, headOf } from "./checkout.js";
import { delivery, sendReport } from "./mail.js";
import { show } from "./screen.js";

const SYSTEM = "You audit source code. You are brief and concrete, and you change as little as possible.";
const FIX_TRIES_MAX = 3;

const Input = z.object({ repository: z.string(), model: z.string(), recipient: z.string() });
const Edit = z.object({ file: z.string(), find: z.string(), replace: z.string(), why: z.string() });

export const codeAudit = workflow({ name: "code-audit", version: "1", input: Input }, async (ctx, input) => {
  const { repository, model, recipient } = input;
  const commit = await ctx.step("resolve", headOf, { input: repository });

  // A clone lives on one machine only: a restarted process makes its own, of the same commit.
  const checkout = await ctx.resource("checkout", () => new Checkout(repository, commit));
  const files = await ctx.step("scan", () => checkout.scan(), {
    input: { commit },
    resources: [{ kind: "git-commit", id: commit, mode: "read" }],
  });

  // 1. The model picks what it wants to read.
  const tools = {
    read_file: tool({
      description: "Returns the beginning of a file of the repository.",
      parameters: z.object({ path: z.string() }),
      execute: ({ path }) => checkout.read(path),
      resources: ({ path }) => [{ kind: "file", id: path, mode: "read" }],
    }),
  };
  const list = files.map(({ path, lines, marks }) => `- ${path} | ${lines} lines | ${marks} marks`).join("\n");
  ctx.messages.push({ role: "user", content: `Read the two files most worth an audit.\n\n${list}` });
  const plan = await ctx.llm.generate(model, { name: "plan", system: SYSTEM, tools, toolChoice: "required" });
  ctx.messages.push(plan.message, ...(await ctx.runTools(plan.toolCalls, tools)));

  // 2. It writes the audit. A zone is all or nothing: killed in the middle, no half of it stays.
  ctx.messages.push({ role: "user", content: "Write the audit of these files." });
  const audit = await ctx.zone("audit", async (zone) => {
    const stream = zone.llm.stream(model, { system: SYSTEM, tools, toolChoice: "none" });
    for await (const text of stream) show(text);
    return stream.final;
  });
  ctx.messages.push(audit.message);

  // 3. It proposes an edit; a step makes a patch of it and checks that git applies it.
  ctx.messages.push({ role: "user", content: "Fix one thing. `find` must occur exactly once in `file`." });
  let patch = "";
  for (let tries = 1; patch === ""; tries++) {
    const fix = await ctx.llm.generate(model, { name: "fix", system: SYSTEM, tools, toolChoice: "none", output: Edit });
    ctx.messages.push(fix.message);
    try {
      patch = await ctx.step("patch", (edit) => checkout.patch(edit), { input: fix.output });
    } catch (error) {
      if (!(error instanceof StepError) || tries === FIX_TRIES_MAX) throw error;
      ctx.messages.push({ role: "user", content: `That edit does not fit: ${error.message}. Try another.` });
    }
  }

  // 4. A mail cannot be taken back: a guarded step is never started twice while its outcome is unknown.
  const report = { to: recipient, subject: `Audit of ${commit.slice(0, 12)}`, text: textOf(audit.message), patch };
  const mail = await ctx.step("report", sendReport, {
    input: report,
    idempotencyKey: `report-${ctx.rootId}`,
    ...delivery(),
  });
  return { commit, files: files.length, patch, mail };
});
