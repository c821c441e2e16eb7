/**
 * Backs an engine of its own up while it runs, loses it, restores it: node dist/examples/restore/main.js
 *
 * The restored ledger has a new incarnation: the worker that ran an order before is refused, the order waits until somebody
 * releases it, and what it did after the backup is done a second time. `CELLAFLOW_BIN` names the engine's program.
 */
import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { createClient, createWorker } from "@cellaflow/sdk";
import { startCountingServer, startEngine } from "@cellaflow/sdk/testing";
import { order } from "./workflow.js";

await using engine = await startEngine();
const { connection, folder } = engine;
const mails = await startCountingServer();
process.env.CHARGE_URL = mails.url;

/** The command line; a backup is made by the engine, a restore while none runs. */
function cellaflow(...args: string[]): string {
  const { url, token, ca } = connection;
  const env = { PATH: process.env.PATH, CELLAFLOW_URL: url, CELLAFLOW_TOKEN: token, CELLAFLOW_CA: ca };
  return execFileSync(process.env.CELLAFLOW_BIN ?? "cellaflow", args, { env, encoding: "utf8" });
}

const client = createClient({ connection });
const stop = new AbortController();
const worker = createWorker({ connection, workflows: [order] }).run({ signal: stop.signal });

const session = await client.start(order, "tea");
console.log(`begun: ${(await session.result()).status}`);
const { directory } = JSON.parse(cellaflow("backup", "--json")) as { directory: string };

// All this comes after the backup.
await client.signal(session.sessionId, "paid", true, { id: "paid" });
for await (const { kind, name } of session.events()) if (kind === "stepCompleted" && name === "thank") break;
console.log(`after the backup: ${mails.charges.length} message sent, packing`);

await engine.kill();
rmSync(join(folder, "ledger"), { recursive: true });
console.log(cellaflow("restore", "--from", directory, "--data", folder).trim());
await engine.restart();

// New orders go on at once; the one that was there is held, though its worker is back and its money has come.
await client.signal(session.sessionId, "paid", true, { id: "paid" });
const milk = await client.start(order, "milk");
await client.signal(milk.sessionId, "paid", true);
console.log("a new order:", await milk.result({ whileWaiting: "follow" }));
const { held, reason } = await session.get();
console.log(`the old one: held ${held}; ${reason}`);

const { done } = await client.release({}); // cellaflow sessions release --all
console.log(`released ${done}:`, await session.result({ whileWaiting: "follow" }));
console.log(`messages sent for tea: ${mails.count("thank you for buying tea")}`);
stop.abort();
await worker;
await mails.close();
