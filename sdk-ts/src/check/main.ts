#!/usr/bin/env node
/**
 * `cellaflow-check`: would this code go on with those sessions? `cellaflow sessions check` runs it.
 *
 * Owns: arguments, exit codes. Never: judges (`client.check`).
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { Client } from "../client/api.js";
import { createClient } from "../client/client.js";
import type { SessionInfo, SessionStatus } from "../client/session.js";
import { CellaflowError } from "../errors.js";
import { type Code, codeFor, loadCode, UsageError } from "./code.js";
import { asJson, exitCode, inWords, type Unchecked } from "./report.js";

const USAGE = `Usage: cellaflow-check MODULE [SESSION…] [options]

Runs the workflows that MODULE exports over the ledgers of sessions: do they ask for what was recorded? Nothing is
appended, no lease is taken and no step runs. Without sessions: all that have not ended.

  --from VERSION   only sessions that are pinned to this version
  --as VERSION     the code to try, if MODULE exports several versions
  --acquire        let ctx.resource acquire; else code that uses a resource outside of steps cannot be checked
  --stall-ms MS    how long code may stand still before it counts as different; default 2000
  --json           one JSON document

SESSION is an id, or WORKFLOW/KEY. The engine is found as by the command line (CELLAFLOW_URL and the like, or the nearest
.cellaflow). A MODULE in TypeScript needs a Node.js that strips types, or compile it first.
Exit codes: 0 all compatible, 1 some are not, 2 wrong usage, 64 no engine found, 69 engine not reached, 77 not allowed`;

const LIVE: readonly SessionStatus[] = ["pending", "running", "waiting", "paused"];

/** Node.js 22.12 to 22.17 strip types only if they are told to. */
function stripsTypes(): boolean {
  return (process.features as { typescript?: unknown }).typescript !== false;
}

function options(args: string[]) {
  const parsed = parseArgs({
    args,
    allowPositionals: true,
    options: {
      from: { type: "string" },
      as: { type: "string" },
      acquire: { type: "boolean", default: false },
      "stall-ms": { type: "string", default: "2000" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  return { ...parsed.values, stallMs: Number(parsed.values["stall-ms"]), positionals: parsed.positionals };
}

type Options = ReturnType<typeof options>;

async function* named(client: Client, sessions: readonly string[], code: Code, from?: string) {
  for (const name of sessions) {
    const [workflow = "", ...key] = name.split("/");
    const session = await client.get(key.length === 0 ? name : { workflow, key: key.join("/") });
    if (from === undefined || session.version === from) yield session;
  }
  if (sessions.length > 0) return;
  const version = from === undefined ? {} : { version: from };
  for (const workflow of new Set(code.workflows.map(({ name }) => name))) {
    yield* client.list({ workflow, status: LIVE, ...version });
  }
}

async function check(client: Client, session: SessionInfo, code: Code, given: Options) {
  const workflow = codeFor(code, session, given.as);
  const resources = given.acquire ? "acquire" : "standIn";
  try {
    return await client.check(session.sessionId, { workflow, stallMs: given.stallMs, resources });
  } catch (error) {
    if (!(error instanceof CellaflowError)) throw error;
    return { sessionId: session.sessionId, error } satisfies Unchecked;
  }
}

async function run(given: Options): Promise<number> {
  const [module, ...sessions] = given.positionals;
  if (module === undefined) throw new UsageError(USAGE);
  if (!Number.isFinite(given.stallMs) || given.stallMs <= 0) throw new UsageError("--stall-ms takes a time in ms");
  const code = await loadCode(module);
  const client = createClient(code.hooks === undefined ? {} : { hooks: code.hooks });
  const all: Awaited<ReturnType<typeof check>>[] = [];
  for await (const session of named(client, sessions, code, given.from)) {
    const checked = await check(client, session, code, given);
    all.push(checked);
    if (!given.json) say(inWords(checked));
  }
  if (given.json) say(JSON.stringify({ sessions: all.map(asJson) }, undefined, 2));
  else if (all.length === 0) console.error("no session of these workflows is there that has not ended");
  return exitCode(all);
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

function failed(error: unknown): number {
  console.error(error instanceof Error ? error.message : String(error));
  if (!(error instanceof CellaflowError)) return error instanceof UsageError ? 2 : 1;
  if (error.code === "no_connection" || error.code === "invalid_connection") return 64;
  return exitCode([{ sessionId: "", error }]);
}

function main(args: string[]): Promise<number> | number {
  let given: Options;
  try {
    given = options(args);
  } catch (error) {
    return failed(new UsageError(`${error instanceof Error ? error.message : error}\n\n${USAGE}`));
  }
  if (given.help) {
    say(USAGE);
    return 0;
  }
  const [module = ""] = given.positionals;
  if (/\.[cm]?ts$/.test(module) && !stripsTypes()) {
    const own = fileURLToPath(import.meta.url);
    const flags = ["--experimental-strip-types", "--disable-warning=ExperimentalWarning", own];
    return spawnSync(process.execPath, [...flags, ...args], { stdio: "inherit" }).status ?? 1;
  }
  return run(given).catch(failed);
}

process.exitCode = await main(process.argv.slice(2));
// A module may keep the process alive with something of its own.
process.stdout.write("", () => process.exit());
