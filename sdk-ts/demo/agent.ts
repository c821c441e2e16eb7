/**
 * What the demo knows of the agent it kills: where it is, what it reads from its environment, what it writes.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Acknowledgement } from "#sdk/harness/account.js";
import { linesOf } from "#sdk/harness/jsonl.js";
import type { Connection } from "#sdk/harness/wire.js";

/** The compiled agent. */
export const AGENT_MAIN = fileURLToPath(new URL("../examples/code-audit/main.js", import.meta.url));

/** An agent that does nothing but steps, and its workflow's name. */
export const STEPS_MAIN = fileURLToPath(new URL("./steps-agent.js", import.meta.url));
export const STEPS_WORKFLOW = "steps";

/** What the scripted model answers it. */
export const MODEL_SCRIPT = fileURLToPath(new URL("../examples/code-audit/script.js", import.meta.url));

/** The agent's workflow name. */
export const WORKFLOW = "code-audit";

/** The e-mail's Message-ID, by which the mail server knows it. */
export function messageId(rootId: string): string {
  return `<report-${rootId}@cellaflow.local>`;
}

/** Where an agent writes what it saw. */
export interface AgentLogs {
  acks: string;
  stats: string;
}

/** The logs of one start of one run. */
export function logsOf(folder: string, start: number): AgentLogs {
  return { acks: join(folder, `acks-${start}.jsonl`), stats: join(folder, `stats-${start}.jsonl`) };
}

/** What the agent's environment says. */
export interface AgentSettings {
  connection: Connection;
  key: string;
  modelUrl: string;
  smtpUrl: string;
  mailQueryUrl: string;
  repository: string;
  logs: AgentLogs;
}

/** The environment of one agent process. */
export function agentEnvironment(settings: AgentSettings): NodeJS.ProcessEnv {
  return {
    CELLAFLOW_URL: settings.connection.url,
    CELLAFLOW_TOKEN: settings.connection.token,
    CELLAFLOW_CA: settings.connection.ca,
    CELLAFLOW_ACK_LOG: settings.logs.acks,
    CELLAFLOW_STATS_LOG: settings.logs.stats,
    OPENAI_BASE_URL: settings.modelUrl,
    OPENAI_API_KEY: "scripted",
    AUDIT_MODEL: "scripted-1",
    SMTP_URL: settings.smtpUrl,
    SMTP_QUERY_URL: settings.mailQueryUrl,
    AUDIT_KEY: settings.key,
    AUDIT_REPOSITORY: settings.repository,
  };
}

/** A line of the agent's statistics: an outcome that was delivered, or a replay that came to its end. */
export type Statistic =
  | { kind: "step"; replayed: boolean; totalMs: number; ownMs: number }
  | { kind: "replay"; outcomes: number; replayMs: number };

/** Reads the acknowledgements of one start; a line that a kill cut off is left out. */
export function acknowledgements(logs: AgentLogs): Acknowledgement[] {
  return linesOf(logs.acks) as Acknowledgement[];
}

/** Reads the statistics of one start. */
export function statistics(logs: AgentLogs): Statistic[] {
  return linesOf(logs.stats) as Statistic[];
}
