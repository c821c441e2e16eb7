/**
 * Runs the audit agent, or goes on with a run that was killed.
 *
 *     node dist/examples/code-audit/main.js [repository] [--key KEY] [--workdir FOLDER] [--to ADDRESS] [--model NAME] [--json]
 *
 * `repository` is a path or URL; default: the repository that this file is in. Start it again with the same key, on any
 * machine and in any folder, and it goes on where it was.
 *
 * Environment: `OPENAI_BASE_URL` and `OPENAI_API_KEY` (else a scripted model), `SMTP_URL` and `SMTP_QUERY_URL` (else a
 * mail server of its own), `AUDIT_KEY`, `AUDIT_REPOSITORY`, `AUDIT_TO`, `AUDIT_MODEL` for the options,
 * `CELLAFLOW_STATS_LOG` (a file that gets one JSON line per delivered outcome and replay).
 */
import { execFileSync } from "node:child_process";
import { appendFileSync } from "node:fs";
import { basename } from "node:path";
import { parseArgs } from "node:util";
import { createClient, type RunObserver } from "@cellaflow/sdk";
import { Screen } from "./screen.js";
import { codeAudit } from "./workflow.js";

const { env } = process;
/** Between the frames of the scripted model, in ms: so that one sees it stream. */
const SCRIPTED_DELAY_MS = 15;

interface Options {
  repository: string;
  key: string;
  recipient: string;
  model: string;
  json: boolean;
}

function optionsOf(args: readonly string[]): Options {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      key: { type: "string", default: env.AUDIT_KEY },
      workdir: { type: "string", default: process.cwd() },
      to: { type: "string", default: env.AUDIT_TO ?? "team@example.com" },
      model: { type: "string", default: env.AUDIT_MODEL ?? (env.OPENAI_BASE_URL ? "gpt-5.4-mini" : "scripted-1") },
      json: { type: "boolean", default: false },
    },
  });
  const repository = positionals[0] ?? env.AUDIT_REPOSITORY ?? enclosingRepository();
  process.chdir(values.workdir);
  const key = values.key ?? `audit of ${basename(repository)}`;
  return { repository, key, recipient: values.to, model: values.model, json: values.json };
}

function enclosingRepository(): string {
  return execFileSync("git", ["rev-parse", "--show-toplevel"], { cwd: import.meta.dirname, encoding: "utf8" }).trim();
}

/** Starts what the environment does not name. */
async function startWorld(screen: Screen): Promise<AsyncDisposable> {
  const started: { close(): Promise<void> }[] = [];
  if (env.OPENAI_BASE_URL && env.SMTP_URL) return { [Symbol.asyncDispose]: async () => undefined };
  const { startScriptedLlm, startSmtp } = await import("@cellaflow/sdk/testing");
  if (!env.OPENAI_BASE_URL) {
    const { default: script } = await import("./script.js");
    const model = await startScriptedLlm({ script, delivery: { chunkDelayMs: SCRIPTED_DELAY_MS } });
    env.OPENAI_BASE_URL = model.baseUrl;
    started.push(model);
    screen.say("no OPENAI_BASE_URL: a scripted model answers");
  }
  if (!env.SMTP_URL) {
    const mail = await startSmtp();
    env.SMTP_URL = mail.smtpUrl;
    started.push(mail);
    // It dies with this process, so nobody can be asked after a crash: no SMTP_QUERY_URL, the step pauses then.
    screen.say("no SMTP_URL: the report goes to a mail server of this process");
  }
  return {
    async [Symbol.asyncDispose]() {
      await Promise.all(started.map((one) => one.close()));
    },
  };
}

/** What the demo measures with. */
function statistics(file: string | undefined): RunObserver {
  if (!file) return {};
  const write = (line: object): void => appendFileSync(file, `${JSON.stringify(line)}\n`);
  return {
    stepDelivered: ({ replayed, totalMs, ownMs }) => write({ kind: "step", replayed, totalMs, ownMs }),
    replayFinished: ({ outcomes, replayMs }) => write({ kind: "replay", outcomes, replayMs }),
  };
}

async function main(): Promise<number> {
  const { key, json, ...input } = optionsOf(process.argv.slice(2));
  const screen = new Screen(json);
  await using _world = await startWorld(screen);
  const stats = statistics(env.CELLAFLOW_STATS_LOG);
  const observer: RunObserver = {
    stepDelivered: (step) => {
      stats.stepDelivered?.(step);
      screen.stepDelivered(step);
    },
    replayFinished: (replay) => {
      stats.replayFinished?.(replay);
      screen.replayFinished(replay);
    },
  };
  const client = createClient({ observer });
  let result = await client.run(codeAudit, input, { key });
  while (result.status === "runningElsewhere") result = await client.run(codeAudit, input, { key });
  screen.result(result);
  return result.status === "completed" ? 0 : 1;
}

process.exitCode = await main();
