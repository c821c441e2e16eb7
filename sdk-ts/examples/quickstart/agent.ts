import { createClient, workflow } from "@cellaflow/sdk";
import { z } from "zod";

const Input = z.object({ url: z.string(), model: z.string() });

const summarise = workflow({ name: "summarise", version: "1", input: Input }, async (ctx, { url, model }) => {
  // A step's output is journaled: after a crash it is returned, not fetched again.
  const page = await ctx.step("fetch", async (url) => (await fetch(url)).text(), { input: url });

  // So is an answer: nobody pays for it twice.
  const { text } = await ctx.llm.generate(model, { messages: `Summarise in one sentence:\n\n${page}` });
  return text;
});

const [url = "https://example.com", model = "gpt-5.4-mini"] = process.argv.slice(2);
const result = await createClient().run(summarise, { url, model }, { key: url });
console.log(result);
