/**
 * The world around the matrix's workers: models, a counting server, a mail server, each a process of its own.
 *
 * Owns: the independent witnesses. Never: is killed by a run.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { ServerRequest } from "#sdk/harness/account.js";
import { linesOf } from "#sdk/harness/jsonl.js";
import { STREAM_SLOWER } from "#sdk/harness/plan.js";
import type { Processes } from "#sdk/harness/processes.js";
import type { MatrixWorld } from "./example.js";

/** Wait before the first byte of an answer and before each further frame, in ms: long enough to be killed there. */
const MODEL_FIRST_BYTE_MS = 15;
const MODEL_FRAME_MS = 3;

/** How long an effect's server holds its answer back where its caller is about to be killed, in ms. */
const HELD_REPLY_MS = 400;

/** One effect, as its server counted it. */
export interface Effect {
  server: "charge" | "mail";
  /** Idempotency key or Message-ID. */
  key: string;
  /** When, in ms since the Unix epoch. */
  atMs: number;
  /** All that the server knows of it, as text. */
  text: string;
}

interface Model {
  url: string;
  baseUrl: string;
}

/** All servers. */
export class World {
  private readonly models = new Map<string, Promise<Model>>();

  private constructor(
    private readonly processes: Processes,
    private readonly folder: string,
    private readonly environment: NodeJS.ProcessEnv,
    private readonly charge: Record<string, string>,
    private readonly mail: Record<string, string>,
  ) {}

  static async start(processes: Processes, folder: string, environment: NodeJS.ProcessEnv): Promise<World> {
    mkdirSync(folder, { recursive: true });
    makeRepository(join(folder, "repository"));
    const serve = (name: string) =>
      processes.serve(launchOf(name, folder, environment, ["--record", join(folder, `${name}.jsonl`)]));
    const [charge, mail] = await Promise.all([serve("counting-server"), serve("smtp")]);
    return new World(processes, folder, environment, charge.ready, mail.ready);
  }

  /** What an example sees of it; starts the model that answers with its script. */
  async for(script: URL | undefined): Promise<MatrixWorld> {
    const model = await this.model(script === undefined ? "" : fileURLToPath(script));
    return {
      modelUrl: model.baseUrl,
      chargeUrl: this.charge.url ?? "",
      smtpUrl: this.mail.smtpUrl ?? "",
      mailQueryUrl: this.mail.url ?? "",
      repository: join(this.folder, "repository"),
      charges: (key) => this.charges(key),
      mails: (id) => this.mails(id),
    };
  }

  /** Whether an effect was made, whatever server makes it. */
  async made(effectKey: string): Promise<boolean> {
    return (await this.charges(effectKey)) + (await this.mails(effectKey)) > 0;
  }

  /** Lets the servers make the next effect of this key at once but answer late. */
  async holdReply(effectKey: string): Promise<void> {
    await Promise.all([
      post(`${this.charge.url}/control/faults`, { fault: { delayAfterMs: HELD_REPLY_MS }, match: { key: effectKey } }),
      post(`${this.mail.url}/control/faults`, {
        fault: { delayReplyMs: HELD_REPLY_MS },
        match: { message_id: effectKey },
      }),
    ]);
  }

  /** Slows a session's next stream down (see `plan.ts`). */
  async slowStream(modelUrl: string, session: string): Promise<void> {
    const fault = { chunkDelayMs: MODEL_FRAME_MS * STREAM_SLOWER };
    await post(new URL("/control/faults", modelUrl).href, { fault, match: { session, stream: true } });
  }

  /** Every effect that was made. */
  effects(): Effect[] {
    const charges = linesOf(join(this.folder, "counting-server.jsonl")) as { key: string; at_ms: number }[];
    const mails = linesOf(join(this.folder, "smtp.jsonl")) as {
      message_id: string;
      delivered_ms: number;
    }[];
    return [
      ...charges.map((one): Effect => ({ server: "charge", key: one.key, atMs: one.at_ms, text: JSON.stringify(one) })),
      ...mails.map(
        (one): Effect => ({
          server: "mail",
          key: one.message_id,
          atMs: one.delivered_ms,
          text: JSON.stringify(one),
        }),
      ),
    ];
  }

  /** Every model request, once the servers are done with all of them. */
  async requests(): Promise<ServerRequest[]> {
    const all = [];
    for (const model of this.models.values()) all.push(...(await requestsOf((await model).url)));
    return all;
  }

  private model(script: string): Promise<Model> {
    let model = this.models.get(script);
    if (model === undefined) {
      const name = `model-${this.models.size + 1}`;
      const args = [
        ...["--record", join(this.folder, `${name}.jsonl`)],
        ...["--delay-ms", String(MODEL_FRAME_MS), "--first-byte-delay-ms", String(MODEL_FIRST_BYTE_MS)],
        ...(script === "" ? [] : ["--script", script]),
      ];
      const how = launchOf("scripted-llm", this.folder, this.environment, args);
      const logFile = join(this.folder, `${name}.log`);
      model = this.processes.serve({ ...how, logFile }).then(({ ready }) => ready as unknown as Model);
      this.models.set(script, model);
    }
    return model;
  }

  private charges(key: string): Promise<number> {
    return this.count(`${this.charge.url}/count?key=${encodeURIComponent(key)}`);
  }

  private mails(id: string): Promise<number> {
    return this.count(`${this.mail.url}/delivered?message_id=${encodeURIComponent(id)}`);
  }

  private async count(url: string): Promise<number> {
    const answer = await fetch(url);
    return ((await answer.json()) as { count: number }).count;
  }
}

function launchOf(name: string, folder: string, env: NodeJS.ProcessEnv, args: readonly string[]) {
  const main = fileURLToPath(new URL(`../testing/${name}-main.js`, import.meta.url));
  return { command: process.execPath, args: [main, ...args], env, cwd: folder, logFile: join(folder, `${name}.log`) };
}

async function post(url: string, body: object): Promise<void> {
  await fetch(url, { method: "POST", body: JSON.stringify(body) });
}

async function requestsOf(url: string): Promise<ServerRequest[]> {
  for (let tries = 0; tries < 50; tries += 1) {
    const answer = await fetch(`${url}/control/record`);
    const { received, finished } = (await answer.json()) as { received: number; finished: ServerRequest[] };
    if (finished.length === received) return finished;
    await delay(100);
  }
  throw new Error("a model server still has requests open after all workers ended");
}

/** A repository with two files, for agents that read code. */
function makeRepository(folder: string): void {
  const git = (...args: string[]) => execFileSync("git", ["-C", folder, ...args]);
  execFileSync("git", ["init", "--quiet", folder]);
  writeFileSync(join(folder, "add.ts"), "// Adds one to what it is given.\nexport const add = (n: number) => n + 1;\n");
  writeFileSync(join(folder, "sub.ts"), "// Takes one from what it is.\nexport const sub = (n: number) => n - 1;\n");
  git("add", ".");
  git("-c", "user.name=matrix", "-c", "user.email=matrix@example.com", "commit", "--quiet", "-m", "first");
}
