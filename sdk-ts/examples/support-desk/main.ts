/**
 * Serves the support desk and talks to it:
 *
 *     node dist/examples/support-desk/main.js serve            the worker; start as many as you like, kill them as you like
 *     node dist/examples/support-desk/main.js say NAME TEXT…   what a customer says (TEXT "bye" ends the talk)
 *     node dist/examples/support-desk/main.js show NAME        the talk so far, asked of the engine, not of the worker
 *
 * Without `OPENAI_BASE_URL` the worker starts a scripted model. Model: `SUPPORT_MODEL`.
 */
import { createClient, createWorker } from "@cellaflow/sdk";
import { supportDesk } from "./workflow.js";

const [command = "serve", customer = "Ann", ...words] = process.argv.slice(2);
const { env } = process;
const model = env.SUPPORT_MODEL ?? (env.OPENAI_BASE_URL ? "gpt-5.4-mini" : "scripted-1");

async function serve(): Promise<void> {
  if (!env.OPENAI_BASE_URL) {
    const { startScriptedLlm } = await import("@cellaflow/sdk/testing");
    const { default: script } = await import("./script.js");
    env.OPENAI_BASE_URL = (await startScriptedLlm({ script })).baseUrl;
  }
  console.log("serving; stop with ctrl-c");
  await createWorker({ workflows: [supportDesk] }).run({ handleSignals: true });
}

async function say(text: string): Promise<void> {
  const client = createClient();
  // The first message opens the talk; the key names it from then on, ended or not.
  const input = { customer, model, idleMs: 24 * 3_600_000 };
  const talk = await client.start(supportDesk, input, { key: customer });
  const said = text === "bye" ? { kind: "goodbye" } : { kind: "message", text };
  const { delivered } = await client.signal(talk.sessionId, "said", said);
  console.log(delivered ? "said" : "kept until the desk listens");
}

async function show(): Promise<void> {
  const { status, state, messages } = await createClient().query({ workflow: "support-desk", key: customer });
  for (const { role, parts } of messages) {
    console.log(`${role}: ${parts.map((part) => (part.type === "text" ? part.text : `(${part.type})`)).join("")}`);
  }
  console.log({ session: status, ...state });
}

if (command === "serve") {
  await serve();
  process.exit();
} else if (command === "say") await say(words.join(" "));
else await show();
