/**
 * Serves an engine of its own with certificates and renews them while it runs: node dist/examples/certificates/main.js
 *
 * The engine asks its clients for certificates, too (mTLS): a token alone lets nobody in. `CELLAFLOW_BIN` names the engine's
 * program; certificates are made with `openssl`.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Client, createClient, workflow } from "@cellaflow/sdk";
import * as z from "zod";
import { Authority, bundle } from "./authority.js";
import { Served } from "./served.js";

const LOOK_MS = 100;

const hello = workflow({ name: "certificates-hello", version: "1", input: z.string() }, (ctx, name) =>
  ctx.step("greet", () => `hello ${name}`),
);

const folder = mkdtempSync(join(tmpdir(), "certificates-"));
const [first, second, clients] = ["first", "second", "clients"].map(
  (name) => new Authority(folder, name),
) as Authorities;
const identity = clients.issue("agent", "client");
const server = first.issue("server", "server");
const engine = await Served.start(folder, { ...server, clientCa: clients.file });
const { url, token } = engine;

/** Asks for the status from a process of its own: one that is not connected yet. */
function asks(ca: string, { cert, key }: { cert?: string; key?: string } = identity): string {
  const mine = cert === undefined || key === undefined ? [] : ["--client-cert", cert, "--client-key", key];
  const args = ["status", "--url", url, "--token", token, "--ca", ca, ...mine];
  const { PATH } = process.env;
  const { status, stderr } = spawnSync(process.env.CELLAFLOW_BIN ?? "cellaflow", args, {
    env: { PATH },
    encoding: "utf8",
  });
  return status === 0 ? "let in" : stderr.trim();
}

/** Waits until who trusts this authority is let in. */
async function until(ca: string): Promise<void> {
  while (asks(ca) !== "let in") {
    if (!engine.running) throw new Error(`the engine has ended:\n${engine.log()}`);
    await delay(LOOK_MS);
  }
}

async function greet(client: Client, name: string): Promise<unknown> {
  const result = await client.run(hello, name);
  return result.status === "completed" ? result.output : result;
}

const trusting = (ca: string) => createClient({ connection: { url, token, ca, ...identity } });
await until(first.file);
const agent = trusting(first.file);
console.log("with a certificate:", await greet(agent, "Ann"));
console.log("without one:", asks(first.file, {}));

// A renewal, here by another authority: whoever is connected stays, new connections meet the new certificate.
second.issue("server", "server");
await until(second.file);
console.log("renewed, connected before:", await greet(agent, "Bob"));
console.log("renewed, connected since:", await greet(trusting(second.file), "Cid"));
console.log("renewed, trusting the former authority:", asks(first.file));
console.log("renewed, trusting both:", asks(bundle(join(folder, "both.pem"), first, second)));

// A renewal that went wrong: what cannot serve is said in the log, and the former pair goes on serving.
writeFileSync(`${server.key}.new`, "no key");
renameSync(`${server.key}.new`, server.key);
while (!engine.log().includes("tls_key")) await delay(LOOK_MS);
console.log("a broken key:", asks(second.file));

await engine.stop();
rmSync(folder, { recursive: true });
process.exit();

type Authorities = [first: Authority, second: Authority, clients: Authority];
