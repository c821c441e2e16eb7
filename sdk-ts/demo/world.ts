/**
 * The world around the agent: a model server and a mail server, each a process of its own with its own record.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { ServerRequest } from "#sdk/harness/account.js";
import { linesOf } from "#sdk/harness/jsonl.js";
import { STREAM_SLOWER } from "#sdk/harness/plan.js";
import type { Processes } from "#sdk/harness/processes.js";
import { MODEL_SCRIPT, messageId } from "./agent.js";

/** Wait before each frame of a streamed answer, in ms: long enough to be killed in the middle. */
const MODEL_DELAY_MS = 6;

/** Wait before the first byte of an answer, in ms: long enough for a kill while it is awaited. */
const MODEL_FIRST_BYTE_MS = 60;

/** How long the mail server holds back its reply to a mail whose sender is about to be killed, in ms. */
const MAIL_REPLY_MS = 600;

/** One delivered mail. */
export interface Mail {
  message_id: string;
}

/** Both servers. */
export class World {
  private constructor(
    private readonly folder: string,
    private readonly model: Record<string, string>,
    private readonly mail: Record<string, string>,
  ) {}

  static async start(processes: Processes, folder: string, environment: NodeJS.ProcessEnv): Promise<World> {
    mkdirSync(folder, { recursive: true });
    const server = (name: string, args: readonly string[]) =>
      processes.serve({
        command: process.execPath,
        args: [fileURLToPath(new URL(`../testing/${name}-main.js`, import.meta.url)), ...args],
        env: environment,
        cwd: folder,
        logFile: join(folder, `${name}.log`),
      });
    const paced = ["--delay-ms", String(MODEL_DELAY_MS), "--first-byte-delay-ms", String(MODEL_FIRST_BYTE_MS)];
    const [model, mail] = await Promise.all([
      server("scripted-llm", ["--record", join(folder, "model.jsonl"), "--script", MODEL_SCRIPT, ...paced]),
      server("smtp", ["--record", join(folder, "mail.jsonl")]),
    ]);
    return new World(folder, model.ready, mail.ready);
  }

  get modelUrl(): string {
    return this.model.baseUrl ?? "";
  }

  get smtpUrl(): string {
    return this.mail.smtpUrl ?? "";
  }

  get mailQueryUrl(): string {
    return this.mail.url ?? "";
  }

  /** Lets the mail server deliver this session's report but hold its reply back for a while. */
  async holdMailReply(rootId: string): Promise<void> {
    await fetch(`${this.mail.url}/control/faults`, {
      method: "POST",
      body: JSON.stringify({ fault: { delayReplyMs: MAIL_REPLY_MS }, match: { message_id: messageId(rootId) } }),
    });
  }

  /** Slows this session's next stream down. */
  async slowStream(session: string): Promise<void> {
    const fault = { chunkDelayMs: MODEL_DELAY_MS * STREAM_SLOWER };
    await fetch(`${this.model.url}/control/faults`, {
      method: "POST",
      body: JSON.stringify({ fault, match: { session, stream: true } }),
    });
  }

  /** The model server's record, once it is done with every request it received. */
  async requests(): Promise<ServerRequest[]> {
    for (let tries = 0; tries < 50; tries += 1) {
      const answer = await fetch(`${this.model.url}/control/record`);
      const { received, finished } = (await answer.json()) as { received: number; finished: ServerRequest[] };
      if (finished.length === received) return finished;
      await delay(100);
    }
    throw new Error("the model server still has requests open after all agents ended");
  }

  /** The mail server's record. */
  mails(): Mail[] {
    return linesOf(join(this.folder, "mail.jsonl")) as Mail[];
  }
}

/** How many mails were delivered for a session. */
export function mailsOf(mails: readonly Mail[], rootId: string): number {
  return mails.filter((mail) => mail.message_id === messageId(rootId)).length;
}
