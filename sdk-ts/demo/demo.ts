/**
 * The demo: uncrashed runs, then one killed run for every place and target, then the account.
 *
 * A kill of an engine hits everything that runs on it, so every run has an engine to itself: there are a few of them
 * side by side (lanes), and each lane takes the next run when it is done with the one before.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { isMidStream, settle, type Target } from "#sdk/harness/account.js";
import { Engine } from "#sdk/harness/engine.js";
import { boundary, type PlannedRun, plan, samplePlan } from "#sdk/harness/plan.js";
import type { Child, Processes } from "#sdk/harness/processes.js";
import type { Screen } from "#sdk/harness/screen.js";
import { Wire } from "#sdk/harness/wire.js";
import {
  AGENT_MAIN,
  type AgentLogs,
  acknowledgements,
  agentEnvironment,
  logsOf,
  STEPS_MAIN,
  type Statistic,
  statistics,
  WORKFLOW,
} from "./agent.js";
import { type Archived, archive, differences } from "./archive.js";
import { Book } from "./book.js";
import { percentile, seconds } from "./figures.js";
import type { Options } from "./options.js";
import type { Measured } from "./result.js";
import { perform, type RunOutcome } from "./run.js";
import { draw, type View } from "./table.js";
import { mailsOf, World } from "./world.js";

/** How long the first engine is left alone before its idle size is read, in ms. */
const IDLE_MS = 2_000;

/** Runs without kills: the first one's ledger is the plan, all of them give the steps' overhead. */
const UNCRASHED_RUNS = 3;

/** Steps of the run that does nothing else: enough for a percentile. */
const STEPS = 1_000;

/** What the demo is given. */
export interface Setting {
  options: Options;
  screen: Screen;
  processes: Processes;
  /** A folder of its own. */
  folder: string;
  /** The engine's program. */
  program: string;
  /** The repository that the agent audits. */
  repository: string;
  /** The environment every process starts from. */
  environment: NodeJS.ProcessEnv;
}

interface Lane {
  engine: Engine;
  wire: Wire;
}

/** One demo. */
export class Demo {
  private readonly started = Date.now();
  private readonly book = new Book();
  private readonly outcomes: RunOutcome[] = [];
  private readonly lanes: Lane[] = [];
  private readonly now = new Map<string, string>();
  private readonly targets = new Map<string, Target>();
  private readonly logs: AgentLogs[] = [];
  private readonly quietLogs: AgentLogs[] = [];
  private planned = UNCRASHED_RUNS;
  private idleMb = 0;

  private constructor(
    private readonly setting: Setting,
    private readonly world: World,
  ) {}

  static async start(setting: Setting): Promise<Demo> {
    const world = await World.start(setting.processes, join(setting.folder, "world"), setting.environment);
    const demo = new Demo(setting, world);
    await demo.addLane();
    setting.screen.say("engine, model server and mail server run; measuring the idle engine");
    await delay(IDLE_MS);
    demo.idleMb = demo.lanes[0]?.engine.rss.sample() ?? 0;
    return demo;
  }

  /** Performs all runs. */
  async perform(): Promise<void> {
    const { screen, options } = this.setting;
    screen.live((width) => this.draw(width));
    const first = this.lanes[0] as Lane;
    for (let n = 1; n <= UNCRASHED_RUNS; n += 1) {
      await this.one({ name: `uncrashed-${n}`, target: "none", place: undefined }, first);
    }
    await this.doSteps(first);
    const boundaries = (this.outcomes[0]?.events ?? []).map(boundary);
    const runs = options.quick ? samplePlan(boundaries) : plan(boundaries);
    this.planned += runs.length;
    const lanes = Math.min(options.lanes, runs.length);
    screen.say(
      `an uncrashed run leaves ${boundaries.length} events; now ${runs.length} runs with kill -9, ` +
        `on ${lanes} engines side by side so that each kill hits one run`,
    );
    while (this.lanes.length < lanes) await this.addLane();
    const queue = runs.values();
    await Promise.all(this.lanes.map((lane) => this.work(lane, queue)));
  }

  /** Counts everything, from the records of the servers and the agents. */
  async measure(): Promise<Omit<Measured, "archivedEvents" | "archiveDifferences">> {
    const requests = await this.world.requests();
    const acks = this.logs.flatMap(acknowledgements);
    const inStream = this.outcomes.filter((one) => one.killed && one.run.place?.kind === "stream");
    const hits = inStream.filter((one) => isMidStream(requests, one.sessionId, one.killMs));
    this.setting.screen.say(
      `${hits.length} of ${inStream.length} kills in the middle of a stream came while the answer was being written`,
    );
    const mails = this.world.mails();
    const sessions = [...this.targets.keys()];
    const quiet = this.quietLogs.flatMap(statistics);
    return {
      runs: this.outcomes.length,
      kills: this.outcomes.filter((one) => one.killed).length,
      completed: this.outcomes.filter((one) => one.completed).length,
      bill: settle(requests, acks, (session) => this.targets.get(session) ?? "none"),
      mailsExpected: this.outcomes.length,
      mailsDelivered: mails.length,
      mailsWrong: sessions.filter((session) => mailsOf(mails, session) !== 1).length,
      replayMs: this.logs.flatMap(statistics).flatMap((one) => (one.kind === "replay" ? [one.replayMs] : [])),
      resumeMs: this.outcomes.flatMap((one) => (one.resumeMs === undefined ? [] : [one.resumeMs])),
      stepOverheadMs: quiet.flatMap(overheadMs),
      engineRssMbIdle: this.idleMb,
      engineRssMbMax: Math.max(...this.lanes.map(({ engine }) => engine.rss.max)),
    };
  }

  /** Moves every session into an archive and lets DuckDB say what they cost. */
  async archive(): Promise<Archived & { differences: string[] }> {
    const { processes, program, folder, environment, screen } = this.setting;
    const setting = { processes, program, folder: join(folder, "archive"), environment };
    const archived = await archive(
      setting,
      this.lanes.map(({ engine }) => engine),
    );
    screen.say(
      `archived ${archived.sessions} sessions with ${archived.events} events in ${archived.bytes} bytes of Parquet; ` +
        "what they cost, from there, by DuckDB:",
    );
    return { ...archived, differences: differences(archived.spent, await this.world.requests()) };
  }

  /** The table as it is now. */
  draw(width: number): string[] {
    return draw(this.view(), width);
  }

  async stop(): Promise<void> {
    for (const { wire } of this.lanes) wire.close();
    await Promise.all(this.lanes.map(({ engine }) => engine.stop()));
  }

  private async addLane(): Promise<void> {
    const { processes, program, folder, environment } = this.setting;
    const engine = await Engine.start(processes, program, join(folder, `engine-${this.lanes.length + 1}`), environment);
    this.lanes.push({ engine, wire: new Wire(engine.connection) });
  }

  private async work(lane: Lane, queue: Iterator<PlannedRun>): Promise<void> {
    for (let next = queue.next(); next.done !== true; next = queue.next()) await this.one(next.value, lane);
  }

  /** Starts an agent; `args` begin with its program. */
  private launch(
    lane: Lane,
    key: string,
    logs: AgentLogs,
    args: readonly string[],
    where: { cwd: string; logFile: string },
  ): Child {
    const { processes, environment, repository } = this.setting;
    const { modelUrl, smtpUrl, mailQueryUrl } = this.world;
    const { connection } = lane.engine;
    const settings = { connection, key, modelUrl, smtpUrl, mailQueryUrl, repository, logs };
    return processes.launch({
      command: process.execPath,
      args: ["--enable-source-maps", ...args],
      env: { ...environment, ...agentEnvironment(settings) },
      ...where,
    });
  }

  /** Lets an agent do nothing but steps, one after the other; nobody watches it, which would cost it time. */
  private async doSteps(lane: Lane): Promise<void> {
    const folder = join(this.setting.folder, "runs", "steps");
    mkdirSync(folder, { recursive: true });
    const logs = logsOf(folder, 1);
    const where = { cwd: folder, logFile: join(folder, "agent-1.log") };
    const agent = this.launch(lane, "steps", logs, [STEPS_MAIN, String(STEPS)], where);
    const { code } = await agent.exited;
    if (code !== 0) throw new Error(`the agent that only does steps ended with code ${code}:\n${agent.tail()}`);
    const inAudits = this.quietLogs.flatMap(statistics).flatMap(overheadMs);
    this.quietLogs.push(logs);
    const alone = statistics(logs).flatMap(overheadMs);
    this.setting.screen.say(
      `a step costs, besides its own work, p50/p99 ms: ${inWordsMs(alone)} in ${alone.length} steps in a row, ` +
        `${inWordsMs(inAudits)} in the audits' ${inAudits.length} (cold code, waits for models in between)`,
    );
  }

  private async one(run: PlannedRun, lane: Lane): Promise<void> {
    const { screen, folder } = this.setting;
    const runFolder = join(folder, "runs", run.name);
    mkdirSync(runFolder, { recursive: true });
    this.now.set(run.name, inWords(run));
    const outcome = await perform(run, {
      engine: lane.engine,
      wire: lane.wire,
      workflow: WORKFLOW,
      folder: runFolder,
      startAgent: (workFolder, start) => {
        const logs = logsOf(runFolder, start);
        this.logs.push(logs);
        if (run.target === "none") this.quietLogs.push(logs);
        return this.launch(lane, run.name, logs, [AGENT_MAIN, "--workdir", workFolder], {
          cwd: workFolder,
          logFile: join(runFolder, `agent-${start}.log`),
        });
      },
      onSession: (sessionId) => {
        this.targets.set(sessionId, run.target);
        if (run.place?.kind === "guarded") void this.world.holdMailReply(sessionId);
        if (run.place?.kind === "stream") void this.world.slowStream(sessionId);
      },
      onEvent: (event) => this.book.take(run.name, event),
    });
    this.now.delete(run.name);
    this.outcomes.push(outcome);
    screen.say(`${this.outcomes.length}/${this.planned}  ${inWords(run)}: ${became(outcome)}`);
  }

  private view(): View {
    const completed = this.outcomes.filter((one) => one.completed).length;
    return {
      rows: this.book.rows,
      totals: this.book.totals,
      runs: { done: this.outcomes.length, planned: this.planned, completed },
      kills: this.outcomes.filter((one) => one.killed).length,
      elapsedMs: Date.now() - this.started,
      engineRssMb: Math.max(0, ...this.lanes.map(({ engine }) => engine.rss.max)),
      now: [...this.now.values()],
    };
  }
}

/** What a step cost beyond its own work; nothing for a replayed one. */
function overheadMs(statistic: Statistic): number[] {
  if (statistic.kind !== "step" || statistic.replayed) return [];
  return [Math.max(0, statistic.totalMs - statistic.ownMs)];
}

function inWordsMs(samples: readonly number[]): string {
  return `${percentile(samples, 50).toFixed(2)}/${percentile(samples, 99).toFixed(2)}`;
}

function inWords(run: PlannedRun): string {
  if (run.place === undefined) return run.name;
  const what = run.target === "both" ? "agent and engine" : run.target;
  return `kill ${what} ${run.place.kind === "boundary" ? "at" : ""} ${run.place.label}`.replace(/ {2,}/g, " ");
}

function became(outcome: RunOutcome): string {
  if (!outcome.completed) return `FAILED: ${outcome.problem}`;
  if (outcome.run.target === "none") return "completed";
  if (!outcome.killed) return "completed before it could be killed";
  return outcome.resumeMs === undefined ? "nothing was left to do" : `next step after ${seconds(outcome.resumeMs)}`;
}
