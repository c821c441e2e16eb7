import { createClient, workflow } from "@cellaflow/sdk";
import { z } from "zod";

const Input = z.object({ url: z.string(), model: z.string() });

const summarise = workflow({ name: "summarise", version: "1", input: Input }, async (ctx, { url, model }) => {
  // Journaled: killed after this line, the agent does not fetch the page again when it is started again …
  const page = await ctx.step("fetch", async (url) => (await fetch(url)).text(), { input: url });
  // … and killed after this one, it does not pay for the answer again.
  const answer = await ctx.llm.generate(model, { messages: `Summarise in one sentence:\n\n${page}` });
  return answer.text;
});

const [url = "https://example.com", model = "gpt-5.4-mini"] = process.argv.slice(2);
const result = await createClient().run(summarise, { url, model }, { key: `${model} on ${url}` });
console.log(result.status === "completed" ? result.output : result);
