/**
 * Finds the engine to talk to; the command line looks in the same places in the same order.
 *
 * 1. options,
 * 2. `CELLAFLOW_URL`, `CELLAFLOW_TOKEN`, `CELLAFLOW_CA`, `CELLAFLOW_CERT`, `CELLAFLOW_KEY`,
 * 3. the nearest `.cellaflow/connection.json` in this folder or above,
 * 4. `cellaflow/connection.json` in the user's configuration folder.
 *
 * Invariants:
 * - L1 the environment's token is never sent to an address out of a file, nor a file's token to an address out of the
 *   environment.
 * - L2 a file that is there but cannot be used is an error, not a reason to look further.
 * - L3 when nothing is found, the error lists every place that was looked at.
 */
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { CellaflowError } from "../errors.js";

/** Where the engine is and how to be let in. */
export interface ConnectionOptions {
  /** Address, e.g. `https://127.0.0.1:50051`. Default: looked up (environment, connection files). */
  url?: string;
  /** Bearer token. */
  token?: string;
  /** Certificate authority: PEM text or the path of a PEM file. Default: those that the system trusts. */
  ca?: string;
  /** Certificate of this client, for engines that ask for one: PEM text or the path of a PEM file. Default: none. */
  cert?: string;
  /** Private key of `cert`: PEM text or the path of a PEM file. */
  key?: string;
  /** Namespace. Default: the token's. */
  namespace?: string;
}

/** What was found. */
export interface FoundConnection {
  url: string;
  token: string;
  /** PEM text; empty: those that the system trusts. */
  ca: string;
  /** PEM text of this client's certificate and its key; empty: none. */
  cert: string;
  key: string;
  namespace: string;
  /** The place, for messages. */
  source: string;
}

/** What the search depends on besides the options. */
export interface Surroundings {
  env: Readonly<Record<string, string | undefined>>;
  folder: string;
}

const FILE = "connection.json";

/** @throws CellaflowError `no_connection` or `invalid_connection` */
export function findConnection(options: ConnectionOptions, around: Surroundings = ofProcess()): FoundConnection {
  const { env } = around;
  const namespace = options.namespace ?? "";
  const url = options.url ?? setting(env, "CELLAFLOW_URL");
  if (url !== undefined) {
    const token = options.token ?? setting(env, "CELLAFLOW_TOKEN");
    const source = options.url === undefined ? "CELLAFLOW_URL" : "the options";
    if (token === undefined) throw invalid(source, "there is an address but no token", "set CELLAFLOW_TOKEN as well");
    const ca = pemOf(options.ca ?? setting(env, "CELLAFLOW_CA") ?? "");
    return { url, token, ca, ...identityOf(options, env, {}), namespace, source };
  }
  const looked: string[] = [];
  for (const path of candidates(around)) {
    looked.push(path);
    const text = readIfThere(path);
    if (text === undefined) continue;
    const found = parse(path, text);
    return {
      ...found,
      token: options.token ?? found.token,
      ca: pemOf(options.ca ?? found.ca),
      ...identityOf(options, env, found),
      namespace,
      source: path,
    };
  }
  throw new CellaflowError(
    "no_connection",
    `no engine was found; looked at: the options, CELLAFLOW_URL, ${looked.join(", ")}`,
    "start one with `cellaflow dev` in this folder, or set CELLAFLOW_URL, CELLAFLOW_TOKEN and CELLAFLOW_CA",
    { data: { looked } },
  );
}

function ofProcess(): Surroundings {
  return { env: process.env, folder: process.cwd() };
}

function setting(env: Surroundings["env"], name: string): string | undefined {
  const value = env[name];
  return value === undefined || value === "" ? undefined : value;
}

function* candidates({ env, folder }: Surroundings): Generator<string> {
  for (let at = folder; ; at = dirname(at)) {
    yield join(at, ".cellaflow", FILE);
    if (dirname(at) === at) break;
  }
  const config = setting(env, "XDG_CONFIG_HOME") ?? join(setting(env, "HOME") ?? homedir(), ".config");
  yield join(config, "cellaflow", FILE);
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw invalid(path, `it cannot be read (${code ?? "error"})`, "check its permissions");
  }
}

/** It is no secret of one engine: the environment's goes with an address out of a file, too. */
function identityOf(
  options: ConnectionOptions,
  env: Surroundings["env"],
  file: { cert?: string; key?: string },
): { cert: string; key: string } {
  const cert = pemOf(options.cert ?? setting(env, "CELLAFLOW_CERT") ?? file.cert ?? "");
  const key = pemOf(options.key ?? setting(env, "CELLAFLOW_KEY") ?? file.key ?? "");
  if ((cert === "") === (key === "")) return { cert, key };
  throw invalid("the client certificate", "certificate and key go together", "set CELLAFLOW_CERT and CELLAFLOW_KEY");
}

function parse(path: string, text: string): { url: string; token: string; ca: string; cert: string; key: string } {
  let file: unknown;
  try {
    file = JSON.parse(text);
  } catch {
    throw invalid(path, "it is no JSON", "delete it and start `cellaflow dev`, which writes a new one");
  }
  const { url, token, ca, cert, key } = (file ?? {}) as Record<string, unknown>;
  const orEmpty = (value: unknown): string => (typeof value === "string" ? value : "");
  if (typeof url === "string" && typeof token === "string") {
    return { url, token, ca: orEmpty(ca), cert: orEmpty(cert), key: orEmpty(key) };
  }
  throw invalid(path, "it names no url and token", "delete it and start `cellaflow dev`, which writes a new one");
}

function pemOf(ca: string): string {
  if (ca === "" || ca.includes("-----BEGIN")) return ca;
  const text = readIfThere(ca);
  if (text?.includes("-----BEGIN")) return text;
  throw invalid(
    ca,
    text === undefined ? "there is no such file" : "it is no PEM file",
    "name a PEM file, or give its text",
  );
}

function invalid(source: string, problem: string, action: string): CellaflowError {
  return new CellaflowError("invalid_connection", `${source}: ${problem}`, action, { data: { source } });
}
