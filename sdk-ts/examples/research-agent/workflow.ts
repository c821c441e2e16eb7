/**
 * A research agent with a long tool loop under a fixed budget of tokens: `ctx.context` gives each call the conversation in a
 * form that fits, and `contextTools` let the model read back what was left out.
 *
 * The tools say what they touch (`resources`). That, not their names, is what compaction goes by: a later read of a file makes
 * an earlier one superfluous, and of a command that ran again the newer outcome counts.
 */
import { contextTools, tool, workflow } from "@cellaflow/sdk";
import * as z from "zod";
import { check, search, sourceOf } from "./library.js";

const SYSTEM =
  "You study a code base and write a report about it. Use the tools; answer without one when the report is done.";

const Path = z.object({ path: z.string() });
const Section = z.object({ name: z.string(), text: z.string() });
const Check = z.object({ name: z.string(), round: z.number() });

export const tools = {
  ...contextTools,
  search_sources: tool({
    description: "Lines of the code base that contain a word.",
    parameters: z.object({ word: z.string() }),
    resources: ({ word }) => [{ kind: "search", id: word, mode: "read" }],
    execute: ({ word }) => search(word),
  }),
  read_source: tool({
    description: "A file of the code base.",
    parameters: Path,
    resources: ({ path }) => [{ kind: "file", id: path, mode: "read" }],
    execute: ({ path }) => sourceOf(path),
  }),
  write_section: tool({
    description: "Writes a section of the report, in place of an earlier one of that name.",
    parameters: Section,
    resources: ({ name }) => [{ kind: "file", id: `report/${name}.md`, mode: "write" }],
    execute: ({ name, text }) => `report/${name}.md: ${text.length} characters`,
  }),
  run_check: tool({
    description: "Runs a check of the code base.",
    parameters: Check,
    resources: ({ name }) => [{ kind: "command", id: `check ${name}`, mode: "run" }],
    execute: ({ name, round }) => check(name, round),
  }),
};

const Input = z.object({
  question: z.string(),
  model: z.string(),
  /** Most model calls. */
  turnsMax: z.number().default(400),
  /** Tokens that the messages of a call may have. */
  budget: z.number().default(32_000),
  /** How long a call waits for a compacted context, in ms. */
  waitMs: z.number().default(2_000),
});

/** What the agent is started with. */
export type ResearchInput = z.input<typeof Input>;

export const researchAgent = workflow({ name: "research-agent", version: "1", input: Input }, async (ctx, input) => {
  const { question, model, turnsMax, budget, waitMs } = input;
  ctx.messages.push({ role: "user", content: question });
  for (let turn = 1; turn <= turnsMax; turn++) {
    const { messages } = await ctx.context({ budget, waitMs, system: SYSTEM, tools });
    const answer = await ctx.llm.generate(model, { name: "think", messages, system: SYSTEM, tools });
    ctx.messages.push(answer.message);
    if (answer.toolCalls.length === 0) return { report: answer.text, turns: turn, messages: ctx.messages.length };
    ctx.messages.push(...(await ctx.runTools(answer.toolCalls, tools)));
  }
  return { report: "the report was not done in time", turns: turnsMax, messages: ctx.messages.length };
});
