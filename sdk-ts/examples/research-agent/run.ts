/**
 * One run of the agent on an engine of its own, with worker, engine and compactor killed while it runs.
 *
 * Owns: the processes, the plan of kills, what the model's own record says. Never: judges the agent by itself.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Client, createClient, type EventInfo, type SessionResult, type UsedContext } from "@cellaflow/sdk";
import {
  compactorProgram,
  type LlmRequestRecord,
  type ScriptedLlm,
  startCompactor,
  startEngine,
  startScriptedLlm,
  startWorkerProcess,
  type TestCompactor,
  type TestEngine,
  type WorkerProcess,
} from "@cellaflow/sdk/testing";
import type { Call } from "./money.js";
import { type ResearchInput, researchAgent } from "./workflow.js";

/** What is killed, one after the other, as long as there are kills. */
const TARGETS = ["worker", "engine", "compactor", "worker and engine"] as const;
/** Short, so that another worker takes over soon; ms. */
const LEASE_TTL_MS = 3_000;

/** How long the model takes; some kills fall into it. */
const ANSWER_MS = 25;

/** What is run. */
export interface Plan {
  turns: number;
  budget: number;
  waitMs: number;
  kills: number;
  /** Told of every kill and every so many turns. */
  tell(line: string): void;
}

/** What came of it. */
export interface Outcome {
  result: SessionResult<{ report: string; turns: number }>;
  calls: Call[];
  contexts: UsedContext[];
  kills: Record<string, number>;
  requests: number;
  /** Requests that came after the worker held the acknowledgement of their call's answer. */
  redundant: string[];
  /** Requests for a call that was asked before, because its answer died with whoever was killed. */
  repeated: number;
  seconds: number;
}

/** Runs it. */
export async function research(plan: Plan): Promise<Outcome> {
  const begun = performance.now();
  process.env.RESEARCH_TURNS = String(plan.turns);
  const { default: script } = await import("./script.js");
  const folder = mkdtempSync(join(tmpdir(), "research-agent-"));
  await using engine = await startEngine({ flags: ["--lease-ttl-ms", String(LEASE_TTL_MS)] });
  const model = await startScriptedLlm({ script, delivery: { firstByteDelayMs: ANSWER_MS } });
  const isThere = compactorProgram() !== undefined;
  if (!isThere) plan.tell("no compactor is here: CELLAFLOW_COMPACTOR_BIN names its program");
  await using compactor = isThere ? startCompactor({ connection: engine.connection }) : undefined;
  const crew = new Crew(engine, model, folder, compactor);
  try {
    const client = createClient({ connection: engine.connection });
    const input: ResearchInput = {
      question: `How does this code base renew leases? Study it, write the sections, and sign it with the word heron.`,
      model: "scripted-1",
      budget: plan.budget,
      waitMs: plan.waitMs,
    };
    const session = await client.start(researchAgent, input);
    await watch(client, session.sessionId, plan, crew);
    const result = await session.result({ whileWaiting: "follow" });
    await crew.stop();
    const read = await readLedger(client, session.sessionId);
    const { redundant, repeated } = judge(model.records, crew.acknowledged());
    const seconds = (performance.now() - begun) / 1_000;
    return { result, ...read, kills: crew.kills, requests: model.received, redundant, repeated, seconds };
  } finally {
    await crew.stop();
    await model.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Whoever works on the session. */
class Crew {
  readonly kills: Record<string, number> = {};
  private readonly logs: string[] = [];
  private worker: WorkerProcess;
  private stopped = false;

  constructor(
    private readonly engine: TestEngine,
    private readonly model: ScriptedLlm,
    private readonly folder: string,
    private readonly compactor: TestCompactor | undefined,
  ) {
    this.worker = this.begin();
  }

  async kill(target: (typeof TARGETS)[number]): Promise<void> {
    this.kills[target] = (this.kills[target] ?? 0) + 1;
    if (target === "compactor") {
      await this.compactor?.kill();
      return this.compactor?.restart();
    }
    const dying: Promise<unknown>[] = [];
    if (target.includes("worker")) dying.push(this.worker.kill());
    if (target.includes("engine")) dying.push(this.engine.kill());
    await Promise.all(dying);
    if (target.includes("engine")) await this.engine.restart();
    if (target.includes("worker")) this.worker = this.begin();
  }

  async stop(): Promise<void> {
    if (this.stopped) return;
    this.stopped = true;
    await this.worker.close();
  }

  /** When each call's answer was known to be durable, in ms since the Unix epoch. */
  acknowledged(): Map<string, number> {
    const held = new Map<string, number>();
    for (const log of this.logs) {
      for (const { session, call, ms } of linesOf(log)) {
        const name = `${session} ${call}`;
        if (call !== "") held.set(name, Math.min(ms, held.get(name) ?? Number.POSITIVE_INFINITY));
      }
    }
    return held;
  }

  private begin(): WorkerProcess {
    const log = join(this.folder, `acks-${this.logs.length}.jsonl`);
    this.logs.push(log);
    const env = { OPENAI_BASE_URL: this.model.baseUrl, OPENAI_API_KEY: "scripted", CELLAFLOW_ACK_LOG: log };
    const module = new URL("./workflow.js", import.meta.url);
    return startWorkerProcess({ connection: this.engine.connection, module, env });
  }
}

/** Follows the session to its end and kills on the way. */
async function watch(client: Client, sessionId: string, plan: Plan, crew: Crew): Promise<void> {
  const every = Math.max(1, Math.floor(plan.turns / (plan.kills + 1)));
  let kills = 0;
  for await (const item of client.subscribe(sessionId, { tokens: false })) {
    if (item.type !== "event" || item.event.name !== "think") continue;
    const turn = Number(item.event.stepKey?.split("#")[1]);
    if (turn % 20 === 0) plan.tell(`turn ${turn}`);
    const target = TARGETS[kills % TARGETS.length];
    if (kills >= plan.kills || turn !== every * (kills + 1) || target === undefined) continue;
    kills += 1;
    plan.tell(`turn ${turn}: kill -9 ${target}`);
    // Each at another moment of the next turn.
    await delay(kills * 7);
    await crew.kill(target);
  }
}

/** What the ledger says of the session's model calls and contexts. */
async function readLedger(client: Client, sessionId: string): Promise<Pick<Outcome, "calls" | "contexts">> {
  const calls: Call[] = [];
  const contexts: UsedContext[] = [];
  for await (const item of client.subscribe(sessionId, { tokens: false, values: true, live: false })) {
    if (item.type !== "event" || item.event.kind !== "stepCompleted") continue;
    const { event } = item;
    if (event.name === "context") contexts.push(event.value as UsedContext);
    else if (event.name === "think") calls.push(callOf(event, contexts.at(-1)));
    else if (event.name?.startsWith("ccs_")) Object.assign(calls.at(-1) ?? {}, { fault: true });
  }
  return { calls, contexts };
}

function callOf(event: EventInfo, context: UsedContext | undefined): Call {
  const outputTokens = event.usage.reduce((sum, usage) => sum + usage.outputTokens, 0);
  if (context === undefined) throw new Error(`event ${event.seq}: a model call without a context`);
  const { baseTokens, tokens, sharedTokens, rawTokens } = context;
  return { baseTokens, tokens, sharedTokens, rawTokens, outputTokens, fault: false };
}

function judge(
  records: readonly LlmRequestRecord[],
  held: ReadonlyMap<string, number>,
): Pick<Outcome, "redundant" | "repeated"> {
  const late = records.filter(({ session, call, received_ms }) => {
    return received_ms > (held.get(`${session} ${call}`) ?? Number.POSITIVE_INFINITY);
  });
  const calls = new Set(records.map(({ session, call }) => `${session} ${call}`));
  return { redundant: late.map(({ call }) => call), repeated: records.length - calls.size };
}

interface AckLine {
  session: string;
  call: string;
  ms: number;
}

/** Lines of a log, but for one that a kill cut off. */
function linesOf(file: string): AckLine[] {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch {
    return []; // Killed before its first line.
  }
  return text
    .split("\n")
    .filter((line) => line.endsWith("}"))
    .map((line) => JSON.parse(line) as AckLine);
}
