/**
 * The demo's second half: the engines' sessions move into an archive, and DuckDB says what they cost.
 *
 * Owns: what the archive is asked, and the comparison with the model server's own record. Never: reads a file of the
 * archive itself.
 *
 * Invariants:
 * - R1 Every call of a session was committed once, so the archive has the tokens that the server charged for one whole
 *   answer to each; what a killed agent had to ask for again is in the server's record only.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { ServerRequest } from "#sdk/harness/account.js";
import type { Engine } from "#sdk/harness/engine.js";
import type { Processes } from "#sdk/harness/processes.js";

/** Nano-dollars that a token of the demo's model costs, by the price list; said again, so that nobody believes himself. */
const PRICE = { input: 250, output: 2_000 };

/** The report's queries that say what the demo's runs cost. */
const QUERIES = ["sessions", "cost", "cache_hits", "wasted", "replay"];

/** What each session's committed model calls cost. */
const BY_SESSION = `SELECT
  session_id AS session,
  sum(input_tokens + cached_read_tokens + cache_write_tokens)::BIGINT AS prompt_tokens,
  sum(output_tokens)::BIGINT AS completion_tokens,
  sum(cost_nanos)::BIGINT AS cost_nanos
FROM llm_calls
WHERE NOT wasted
GROUP BY ALL;
`;

/** What a session's model calls cost. */
export interface Spent {
  session: string;
  prompt_tokens: number;
  completion_tokens: number;
  cost_nanos: number;
}

/** What came of it. */
export interface Archived {
  sessions: number;
  events: number;
  /** Bytes of Parquet. */
  bytes: number;
  spent: readonly Spent[];
  /** The report, as lines for a person. */
  report: readonly string[];
}

/** Where programs are, and who starts them. */
export interface Setting {
  processes: Processes;
  /** A folder of its own. */
  folder: string;
  /** The engine's program; the compactor's lies beside it. */
  program: string;
  environment: NodeJS.ProcessEnv;
}

/** Archives what has ended on these engines, all into one archive, and asks it. */
export async function archive(setting: Setting, engines: readonly Engine[]): Promise<Archived> {
  mkdirSync(setting.folder, { recursive: true });
  const all = { sessions: 0, events: 0, bytes: 0 };
  for (const engine of engines) {
    const { url, token, ca } = engine.connection;
    const connection = { CELLAFLOW_URL: url, CELLAFLOW_TOKEN: token, CELLAFLOW_CA: ca };
    const run = ["run", "--once", "--json", "--ended-before-ms", "0"];
    const done = JSON.parse((await compactor(setting, run, connection)).join("\n")) as typeof all;
    all.sessions += done.sessions;
    all.events += done.events;
    all.bytes += done.bytes;
  }
  const query = join(setting.folder, "by-session.sql");
  writeFileSync(query, BY_SESSION);
  const answered = JSON.parse((await compactor(setting, ["report", "--json", query])).join("\n")) as {
    queries: Record<string, Spent[]>;
  };
  const report = await compactor(setting, ["report", ...QUERIES]);
  return { ...all, spent: answered.queries["by-session"] ?? [], report };
}

/** Where archive and server disagree (R1), in words; empty: nowhere. */
export function differences(spent: readonly Spent[], requests: readonly ServerRequest[]): string[] {
  const known = new Map(spent.map((one) => [one.session, one]));
  return [...Map.groupBy(requests, (request) => request.session)].flatMap(([session, asked]) => {
    const expected = chargedOnce(session, asked);
    const found = known.get(session);
    const same = (Object.keys(expected) as (keyof Spent)[]).every((name) => found?.[name] === expected[name]);
    return same
      ? []
      : [`the archive has ${JSON.stringify(found)}, the model server charged ${JSON.stringify(expected)}`];
  });
}

/** One whole answer to each call. */
function chargedOnce(session: string, requests: readonly ServerRequest[]): Spent {
  const whole = requests.filter((request) => request.complete && request.charged);
  const spent = { session, prompt_tokens: 0, completion_tokens: 0, cost_nanos: 0 };
  for (const [request] of Map.groupBy(whole, (request) => request.call).values()) {
    if (request === undefined) continue;
    spent.prompt_tokens += request.prompt_tokens;
    spent.completion_tokens += request.completion_tokens;
    spent.cost_nanos += request.prompt_tokens * PRICE.input + request.completion_tokens * PRICE.output;
  }
  return spent;
}

async function compactor(
  setting: Setting,
  args: readonly string[],
  connection: Record<string, string> = {},
): Promise<string[]> {
  const lines: string[] = [];
  const child = setting.processes.launch({
    command: join(dirname(setting.program), "cellaflow-compactor"),
    args: [...args, "--archive", join(setting.folder, "archive")],
    env: {
      ...setting.environment,
      ...connection,
      RUST_LOG: "warn",
      ...(process.env.CELLAFLOW_DUCKDB === undefined ? {} : { CELLAFLOW_DUCKDB: process.env.CELLAFLOW_DUCKDB }),
    },
    cwd: setting.folder,
    logFile: join(setting.folder, "compactor.log"),
    onLine: (line) => lines.push(line),
  });
  const { code } = await child.exited;
  if (code !== 0) throw new Error(`cellaflow-compactor ${args[0]} ended with code ${code}:\n${child.tail()}`);
  return lines;
}
