/** Cellaflow: sessions run in this process over TLS, as the README's first agent does. */
import { type Context, createClient, workflow } from "@cellaflow/sdk";
import type { Session } from "../job.js";
import { loop, type Open } from "./adapter.js";
import { ANSWER_BYTES, entered, TOOL_BYTES, work } from "./probe.js";

/** Takes every input: no other contender checks its own either. */
const input = {
  "~standard": {
    version: 1 as const,
    vendor: "bench",
    validate: (value: unknown) => ({ value }),
  },
};

const bench = workflow({ name: "bench", version: "1", input }, async (ctx, given) => {
  const session = given as Session;
  return session.kind === "steps" ? loop(session, (name, fn) => ctx.step(name, fn)) : converse(ctx, session);
});

/** The conversation lies in the ledger: every call says what it is asked, and stores what is new of it. */
async function converse(ctx: Context, session: Session): Promise<number> {
  entered(session.id);
  for (let n = 0; n < session.steps; n++) {
    const found = await ctx.step("tool", () => work(session, 2 * n, TOOL_BYTES));
    ctx.messages.push({ role: "user", content: found });
    const request = { messages: ctx.messages.list };
    const answer = await ctx.llm.call({ provider: "bench", model: "scripted", request }, () => {
      const said = work(session, 2 * n + 1, ANSWER_BYTES);
      const message = {
        role: "assistant" as const,
        parts: [{ type: "text" as const, text: said }],
      };
      return {
        value: said.length,
        message,
        usage: { inputTokens: 1, outputTokens: 1 },
      };
    });
    if (answer.message !== undefined) ctx.messages.push(answer.message);
  }
  return ctx.messages.length;
}

export const open: Open = async ({ url = "", token = "", ca = "" }) => {
  const client = createClient({ connection: { url, token, ca } });
  const run = async (session: Session): Promise<void> => {
    const result = await client.run(bench, session, { key: session.id });
    if (result.status !== "completed") throw new Error(`session ${session.id} is ${result.status}`);
  };
  return {
    run,
    // The dead process's lease runs out first; the call waits for that.
    resume: run,
    close: async () => {},
  };
};
