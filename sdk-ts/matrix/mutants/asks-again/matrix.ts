/** The mistake: a model's answer is fetched past the ledger, so that every replay asks for it again. */
import { mutant } from "../mutant.js";

export default mutant("asks-again", async (ctx) => {
  const { text } = await ctx.llm.generate("scripted-1", { messages: "Hello" });
  await fetch(`${process.env.OPENAI_BASE_URL}/chat/completions`, {
    method: "POST",
    headers: { "x-cellaflow-session": ctx.sessionId, "x-cellaflow-call": "llm#1" },
    body: JSON.stringify({ model: "scripted-1", messages: [{ role: "user", content: "Hello" }] }),
  });
  await ctx.step("note", () => "noted");
  return text;
});
