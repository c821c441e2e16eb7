/**
 * A worker that stood still while another one took its session over asks no model when it wakes up.
 *
 * It was stopped right after its zone was entered. It woke up, began the zone's model call before it read that the
 * session was somebody else's, and paid for an answer that was in the ledger already.
 */
import assert from "node:assert/strict";
import { it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { startEngine } from "../testing/engine.js";
import { chatter } from "../testing/kit.fixture.js";
import { startScriptedLlm } from "../testing/scripted-llm.js";
import { startWorkerProcess } from "../testing/worker-process.js";
import { createClient } from "./client.js";

const skip = process.env.CELLAFLOW_BIN ? false : "CELLAFLOW_BIN names no engine";
const module = new URL("../testing/kit.fixture.js", import.meta.url);
const ENTERED = 3;

it("C5: nothing begins after a standstill until the session is bound again", { skip }, async (test) => {
  await using engine = await startEngine({ flags: ["--lease-ttl-ms", "600"] });
  const model = await startScriptedLlm({ script: () => ({ content: "said once" }) });
  test.after(() => model.close());
  const env = { OPENAI_BASE_URL: model.baseUrl, OPENAI_API_KEY: "scripted" };
  const { connection } = engine;
  const freezeAfter = { seq: ENTERED };
  await using sleeper = startWorkerProcess({ connection, module, env, freezeAfter });
  const client = createClient({ connection });
  const session = await client.start(chatter, { item: "hello" });
  while ((await session.get()).seq < ENTERED) await delay(10);
  await using _other = startWorkerProcess({ connection, module, env });
  const result = await session.result({ waitMs: 20_000 });
  assert.deepEqual(result, { status: "completed", sessionId: session.sessionId, output: "said once" }, sleeper.log());
  assert.equal(model.received, 1);
  sleeper.proceed();
  await delay(700);
  assert.equal(model.received, 1, "the worker that woke up asked again");
  assert.match(sleeper.log(), /stood still/);
});
