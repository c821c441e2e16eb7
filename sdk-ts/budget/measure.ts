/**
 * Runs the campaign of `examples/spend-cap` under one budget that is too small, raised, too small again, and raised; and
 * kills engine and worker while they reserve and while calls are under way.
 *
 * The model holds every answer back until it is told to go on. So all that fits into the budget is under way at once, and
 * nothing is settled meanwhile: what was reserved then can be counted on both sides.
 *
 * Owns: the processes, the kills, the counting at three places: the ledgers, the engine's own sums, the model's server.
 * Never: says whether the figures are good.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type BudgetInfo, type Client, createClient } from "@cellaflow/sdk";
import { campaign, slogan } from "#sdk/examples/spend-cap/workflow.js";
import type { Event } from "#sdk/gen/cellaflow/v1/event_pb.js";
import type { ServerRequest } from "#sdk/harness/account.js";
import { Engine, type EngineTimes } from "#sdk/harness/engine.js";
import type { Child, Processes } from "#sdk/harness/processes.js";
import { Wire } from "#sdk/harness/wire.js";
import { type Account, accountOf, unreserved } from "./account.js";

/** What is measured. */
export interface Plan {
  children: number;
  /** Whether engine and worker are killed. */
  kills: boolean;
  /** Path of the engine's program. */
  program: string;
  /** For logs and ledgers. */
  folder: string;
}

/** What it came to. */
export interface Measured {
  account: Account;
  /** Reservations beyond the limit, by the ledgers, or by the engine's own sums whenever they were looked at. */
  overshootReservations: number;
  /** Requests beyond what the limit holds: by what was charged for answers, and the least that was reserved for others. */
  overshootRequests: number;
  /** Requests that nothing was reserved for. */
  unreservedRequests: number;
  requests: number;
  engineKills: number;
  workerKills: number;
  /** Looks at the engine's own sums. */
  looks: number;
  spentNanos: bigint;
  /** What the model's server charged. */
  chargedNanos: bigint;
  completed: number;
}

const TIMES_MS: EngineTimes = { lease_ttl: 1_000, guard_attempt: 1_000, guard_grace: 300 };
const MODEL = "scripted-1";
/** Prices of that model in nano-dollars. */
const PRICE = { input: 250n, output: 2_000n };
/** A call reserves about this much, in nano-dollars: enough for the limits; how much exactly, the ledgers say. */
const CALL_NANOS = 225_000n;
const LOOK_MS = 25;
const PATIENCE_MS = 90_000;
const WORKER = fileURLToPath(new URL("../testing/worker-process-main.js", import.meta.url));
const WORKFLOWS = fileURLToPath(new URL("../examples/spend-cap/workflow.js", import.meta.url));
const LLM = fileURLToPath(new URL("../testing/scripted-llm-main.js", import.meta.url));
const SCRIPT = fileURLToPath(new URL("./script.js", import.meta.url));

/** Runs the campaign once, on an engine of its own. */
export async function measure(plan: Plan, processes: Processes): Promise<Measured> {
  mkdirSync(plan.folder, { recursive: true });
  const environment = { PATH: process.env.PATH, HOME: plan.folder };
  const folder = join(plan.folder, "engine");
  const engine = await Engine.start(processes, plan.program, folder, environment, TIMES_MS);
  const model = await processes.serve({
    command: process.execPath,
    args: [LLM, "--script", SCRIPT],
    env: environment,
    cwd: plan.folder,
    logFile: join(plan.folder, "model.log"),
  });
  const { url = "", baseUrl = "" } = model.ready;
  const worker = () => {
    const { url: at, token, ca } = engine.connection;
    const provider = { OPENAI_BASE_URL: baseUrl, OPENAI_API_KEY: "scripted" };
    return processes.launch({
      command: process.execPath,
      args: ["--enable-source-maps", WORKER, WORKFLOWS],
      env: { ...environment, ...provider, CELLAFLOW_URL: at, CELLAFLOW_TOKEN: token, CELLAFLOW_CA: ca },
      cwd: plan.folder,
      logFile: join(plan.folder, "worker.log"),
    });
  };
  const bench = new Bench(plan, engine, worker, new Model(url));
  try {
    return await bench.run();
  } finally {
    await bench.close();
    await engine.stop();
    await model.child.stop();
  }
}

/** The model's server, from outside. */
class Model {
  constructor(private readonly url: string) {}

  async record(): Promise<{ received: number; finished: ServerRequest[] }> {
    const answer = await fetch(`${this.url}/control/record`);
    return (await answer.json()) as { received: number; finished: ServerRequest[] };
  }

  async release(): Promise<void> {
    await fetch(`${this.url}/control/release`, { method: "POST" });
  }
}

class Bench {
  private readonly client: Client;
  private readonly wire: Wire;
  private worker: Child;
  private sessionId = "";
  private engineKills = 0;
  private workerKills = 0;
  private looks = 0;
  private overSums = 0;
  private overRequests = 0;
  private over = false;

  constructor(
    private readonly plan: Plan,
    private readonly engine: Engine,
    private readonly launch: () => Child,
    private readonly model: Model,
  ) {
    const { connection } = engine;
    this.client = createClient({ connection, log: () => undefined });
    this.wire = new Wire(connection);
    this.worker = launch();
  }

  async close(): Promise<void> {
    this.over = true;
    await this.worker.stop();
    this.wire.close();
  }

  async run(): Promise<Measured> {
    const { children, kills } = this.plan;
    const third = BigInt(Math.floor(children / 3));
    const started = await this.client.start(
      campaign,
      { slogans: children, model: MODEL },
      { budget: { usd: usdOf(third * CALL_NANOS) } },
    );
    this.sessionId = started.sessionId;
    const looking = this.lookAtSums();

    if (kills) await this.killEngineAfter(Number(third / 2n));
    await this.quiet();
    if (kills) await this.killWorker();
    else await this.model.release();
    await this.quiet();

    await this.client.raiseBudget(this.sessionId, { usd: usdOf(2n * third * CALL_NANOS) });
    await this.quiet();
    if (kills) await this.killBoth();
    await this.quiet();

    // For every child once more, and for the calls that were lost.
    await this.client.raiseBudget(this.sessionId, { usd: usdOf(BigInt(3 * children) * CALL_NANOS) });
    await this.toTheEnd();
    this.over = true;
    await looking;
    return this.judge();
  }

  /** Waits until nothing moves: every child has ended, is paused for want of money, or asks the model. */
  private async quiet(): Promise<void> {
    const { children } = this.plan;
    let before = "";
    await this.until("everything that fits is under way", async () => {
      const [{ completed, paused }, { received, finished }] = [await this.states(), await this.model.record()];
      const asking = received - finished.length;
      const now = `${completed} ${paused} ${asking}`;
      const still = completed + paused + asking === children && now === before;
      before = now;
      return still;
    });
    const { received, finished } = await this.model.record();
    const [budget] = await this.client.budget(this.sessionId);
    const { leastNanos } = accountOf(await this.ledgers());
    const answered = finished.filter(({ complete }) => complete);
    const mayCost = chargeOf(answered) + BigInt(received - answered.length) * leastNanos;
    const beyond = mayCost - nanosOf(budget?.limits.usd);
    if (beyond > 0n) this.overRequests = Math.max(this.overRequests, Math.ceil(Number(beyond) / Number(leastNanos)));
  }

  private async states(): Promise<{ completed: number; paused: number }> {
    const counts = { completed: 0, paused: 0 };
    for await (const { status, pauseReason } of this.client.list({ workflow: slogan.name })) {
      if (status === "completed") counts.completed += 1;
      if (status === "paused" && pauseReason === "budget") counts.paused += 1;
    }
    return counts;
  }

  private async killEngineAfter(requests: number): Promise<void> {
    await this.until("calls are made", async () => (await this.model.record()).received >= requests);
    this.engine.kill();
    this.engineKills += 1;
    await this.engine.restart();
  }

  private async killWorker(): Promise<void> {
    this.worker.kill();
    this.workerKills += 1;
    await this.worker.exited;
    this.worker = this.launch();
    await this.asksNothing();
  }

  private async killBoth(): Promise<void> {
    this.engine.kill();
    this.engineKills += 1;
    this.worker.kill();
    this.workerKills += 1;
    await this.engine.restart();
    this.worker = this.launch();
    await this.asksNothing();
  }

  /** The server has noticed that its callers are gone. */
  private async asksNothing(): Promise<void> {
    await this.until("the calls of the dead are over", async () => {
      const { received, finished } = await this.model.record();
      return received === finished.length;
    });
  }

  private async toTheEnd(): Promise<void> {
    await this.until("the campaign has ended", async () => {
      await this.model.release();
      return (await this.client.get(this.sessionId)).status === "completed";
    });
  }

  /** Looks at the engine's own sums all the time. */
  private async lookAtSums(): Promise<void> {
    while (!this.over) {
      await this.client.budget(this.sessionId).then(
        ([budget]) => this.lookAt(budget),
        () => undefined, // It is down.
      );
      await delay(LOOK_MS);
    }
  }

  private lookAt(budget: BudgetInfo | undefined): void {
    this.looks += 1;
    const { limits, spent, reserved } = budget ?? {};
    const beyond = nanosOf(spent?.usd) + nanosOf(reserved?.usd) - nanosOf(limits?.usd);
    if (beyond > 0n) this.overSums = Math.max(this.overSums, Math.ceil(Number(beyond) / Number(CALL_NANOS)));
  }

  private async judge(): Promise<Measured> {
    const ledgers = await this.ledgers();
    const account = accountOf(ledgers);
    await this.asksNothing();
    const { finished } = await this.model.record();
    const [budget] = await this.client.budget(this.sessionId);
    return {
      account,
      overshootReservations: Math.max(account.beyond, this.overSums),
      overshootRequests: this.overRequests,
      unreservedRequests: unreserved(
        ledgers,
        finished.map(({ session }) => session),
      ),
      requests: finished.length,
      engineKills: this.engineKills,
      workerKills: this.workerKills,
      looks: this.looks,
      spentNanos: nanosOf(budget?.spent.usd),
      chargedNanos: chargeOf(finished),
      completed: (await this.states()).completed,
    };
  }

  /** All ledgers of the tree, that of the first session first. */
  private async ledgers(): Promise<Event[][]> {
    const sessions = [this.sessionId];
    for await (const { sessionId } of this.client.list({ workflow: slogan.name })) sessions.push(sessionId);
    return Promise.all(sessions.map((session) => this.ledgerOf(session)));
  }

  private async ledgerOf(sessionId: string): Promise<Event[]> {
    const session = { by: { case: "sessionId" as const, value: sessionId } };
    const request = { session, fromSeq: 1n, untilCaughtUp: true, headersOnly: true };
    const events: Event[] = [];
    for await (const { body } of this.wire.subscribe(request, new AbortController().signal)) {
      if (body.case === "event") events.push(body.value);
    }
    return events;
  }

  private async until(what: string, holds: () => Promise<boolean>): Promise<void> {
    const deadlineMs = Date.now() + PATIENCE_MS;
    while (!(await holds().catch(() => false))) {
      if (Date.now() > deadlineMs) throw new Error(`not yet after ${PATIENCE_MS} ms: ${what}\n${this.worker.tail()}`);
      await delay(LOOK_MS);
    }
  }
}

/** What the server charges for requests. */
function chargeOf(requests: readonly ServerRequest[]): bigint {
  const charged = requests.filter((one) => one.charged);
  const tokens = (of: (one: ServerRequest) => number): bigint => BigInt(charged.reduce((sum, one) => sum + of(one), 0));
  return tokens((one) => one.prompt_tokens) * PRICE.input + tokens((one) => one.completion_tokens) * PRICE.output;
}

function usdOf(nanos: bigint): number {
  return Number(nanos) / 1e9;
}

function nanosOf(usd: number | undefined): bigint {
  return BigInt(Math.round((usd ?? 0) * 1e9));
}
