/**
 * Runs both agents and measures them: the one of many turns while it is killed again and again, the poller while it
 * continues itself.
 *
 * Owns: the processes and the kills. Never: says whether the figures are good.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { createClient } from "@cellaflow/sdk";
import { type Acknowledgement, type ServerRequest, settle } from "#sdk/harness/account.js";
import { Engine } from "#sdk/harness/engine.js";
import { linesOf } from "#sdk/harness/jsonl.js";
import type { Child, Processes } from "#sdk/harness/processes.js";
import { type Lap, Laps, poller } from "./agents.js";

/** What is measured. */
export interface Plan {
  turns: number;
  kills: number;
  continuations: number;
  /** Path of the engine's program. */
  program: string;
  /** For logs and ledgers. */
  folder: string;
}

/** What one run of both came to. */
export interface Measured {
  turns: Lap[];
  rounds: Lap[];
  kills: number;
  redundantLlmRequests: number;
}

/** How long one run may take, in ms. */
const RUN_MS_MAX = 300_000;
/** Rounds of the poller before those that count (see `agent.ts`). */
const WARM_ROUNDS = 60;
const POLLER = poller(new Laps(() => {}));
const AGENT = fileURLToPath(new URL("./agent.js", import.meta.url));
const SCRIPT = fileURLToPath(new URL("./script.js", import.meta.url));
const MODEL = fileURLToPath(new URL("../testing/scripted-llm-main.js", import.meta.url));

/** Runs both agents once, on an engine of their own. */
export async function measure(plan: Plan, processes: Processes): Promise<Measured> {
  mkdirSync(plan.folder, { recursive: true });
  const environment = { PATH: process.env.PATH, HOME: plan.folder };
  const engine = await Engine.start(processes, plan.program, join(plan.folder, "engine"), environment);
  const bench = new Bench(plan, processes, engine, environment);
  const { laps, kills, redundant } = await bench.turns();
  const rounds = await bench.rounds();
  await engine.stop();
  return { turns: laps, rounds, kills, redundantLlmRequests: redundant };
}

class Bench {
  private starts = 0;

  constructor(
    private readonly plan: Plan,
    private readonly processes: Processes,
    private readonly engine: Engine,
    private readonly environment: NodeJS.ProcessEnv,
  ) {}

  async turns(): Promise<{ laps: Lap[]; kills: number; redundant: number }> {
    const { turns, kills: wanted, folder } = this.plan;
    const record = join(folder, "model.jsonl");
    const model = await this.processes.serve({
      command: process.execPath,
      args: [MODEL, "--record", record, "--script", SCRIPT],
      env: this.environment,
      cwd: folder,
      logFile: join(folder, "model.log"),
    });
    const laps = new Map<number, Lap>();
    let kills = 0;
    for (;;) {
      const killAfter = kills < wanted ? Math.round(((kills + 1) * turns) / (wanted + 1)) : Number.POSITIVE_INFINITY;
      const agent = this.start(
        ["turns", "flat", String(turns)],
        { OPENAI_BASE_URL: model.ready.baseUrl },
        (lap, child) => {
          laps.set(lap.n, lap);
          // At another moment of a turn each time.
          if (lap.n === killAfter) setTimeout(() => child.kill(), (kills % 5) * 2);
        },
      );
      const exit = await Promise.race([agent.exited, delay(RUN_MS_MAX, undefined, { ref: false })]);
      if (exit === undefined) throw new Error(`the agent has not ended after ${RUN_MS_MAX} ms:\n${agent.tail()}`);
      if (exit.signal !== "SIGKILL") break;
      kills += 1;
    }
    const acks = Array.from(
      { length: this.starts },
      (_, start) => linesOf(this.ackLog(start + 1)) as Acknowledgement[],
    );
    // An entry is written when its connection is over.
    await delay(200);
    const bill = settle(linesOf(record) as ServerRequest[], acks.flat(), () => "agent");
    await model.child.stop();
    return { laps: [...laps.values()], kills, redundant: bill.redundant };
  }

  async rounds(): Promise<Lap[]> {
    const { continuations } = this.plan;
    const laps: Lap[] = [];
    const worker = this.start(["poller"], {}, (lap) => laps.push(lap));
    const client = createClient({ connection: this.engine.connection });
    for (const rounds of [WARM_ROUNDS, continuations + 1]) {
      laps.length = 0;
      const started = await client.start(POLLER, { round: 1, rounds }, { key: `of ${rounds}` });
      const result = await started.result({ waitMs: RUN_MS_MAX });
      if (result.status !== "completed") throw new Error(`the poller is ${result.status}:\n${worker.tail()}`);
    }
    await worker.stop();
    return laps;
  }

  private start(
    args: readonly string[],
    environment: NodeJS.ProcessEnv,
    told: (lap: Lap, child: Child) => void,
  ): Child {
    this.starts += 1;
    const { url, token, ca } = this.engine.connection;
    const child: Child = this.processes.launch({
      command: process.execPath,
      args: ["--enable-source-maps", AGENT, ...args],
      env: {
        ...this.environment,
        ...environment,
        OPENAI_API_KEY: "scripted",
        CELLAFLOW_URL: url,
        CELLAFLOW_TOKEN: token,
        CELLAFLOW_CA: ca,
        CELLAFLOW_ACK_LOG: this.ackLog(this.starts),
      },
      cwd: this.plan.folder,
      logFile: join(this.plan.folder, "agent.log"),
      onLine: (line) => told(JSON.parse(line) as Lap, child),
    });
    return child;
  }

  private ackLog(start: number): string {
    return join(this.plan.folder, `acks-${start}.jsonl`);
  }
}
