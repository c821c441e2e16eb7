/**
 * Serves the chat: node dist/examples/chat-serverless/main.js [--port 8080] [--model NAME]
 *
 * Kill it with `kill -9` in the middle of an answer and start it again: the page goes on by itself.
 * Environment: `OPENAI_BASE_URL` and `OPENAI_API_KEY`; without them a scripted model answers.
 */
import type { AddressInfo } from "node:net";
import { parseArgs } from "node:util";
import { createClient } from "@cellaflow/sdk";
import { chatServer } from "./server.js";

const { env } = process;
const { values } = parseArgs({
  options: {
    port: { type: "string", default: "8080" },
    model: { type: "string", default: env.OPENAI_BASE_URL ? "gpt-5.4-mini" : "scripted-1" },
  },
});
if (!env.OPENAI_BASE_URL) {
  const { startScriptedLlm } = await import("@cellaflow/sdk/testing");
  env.OPENAI_BASE_URL = (await startScriptedLlm({ delivery: { chunkDelayMs: 60 } })).baseUrl;
  console.log("no OPENAI_BASE_URL: a scripted model answers");
}
const server = chatServer({ client: createClient(), model: values.model });
server.listen(Number(values.port), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
});
