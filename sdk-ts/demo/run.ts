/**
 * One run of the audit agent: killed at its place, its working folder deleted, started again in another one.
 */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { PauseReason, SessionStatus } from "#sdk/gen/cellaflow/v1/common_pb.js";
import type { Event } from "#sdk/gen/cellaflow/v1/event_pb.js";
import type { Engine } from "#sdk/harness/engine.js";
import { isProgress, type PlannedRun, resumedAfterMs } from "#sdk/harness/plan.js";
import type { Child } from "#sdk/harness/processes.js";
import { type Source, Watch } from "#sdk/harness/watch.js";

/** How long a run may take, kills included, in ms. */
const RUN_MS_MAX = 60_000;

/** How long after its agent's end a session may still be shown as running, in ms; an engine may be restarting. */
const SESSION_END_MS_MAX = 10_000;

/** How often an agent is started in one run. */
const STARTS_MAX = 4;

/** What a run needs of its surroundings. */
export interface Surroundings {
  engine: Pick<Engine, "kill" | "restart">;
  wire: Source;
  /** Workflow of the agent, which with the run's key names its session. */
  workflow: string;
  /** The run's own folder; it exists. */
  folder: string;
  /** Starts the agent in this working folder; `start` counts from 1. */
  startAgent(workFolder: string, start: number): Child;
  /** Called once the session exists. */
  onSession(sessionId: string): void;
  onEvent(event: Event): void;
}

/** What became of a run. */
export interface RunOutcome {
  run: PlannedRun;
  sessionId: string;
  completed: boolean;
  /** Whether the processes of its target were killed where it was planned. */
  killed: boolean;
  /** When, in ms since the Unix epoch; 0: never. */
  killMs: number;
  /** From the kill to the first new step, in ms; undefined: none was left to do. */
  resumeMs: number | undefined;
  events: readonly Event[];
  /** Why it did not complete; empty: it did. */
  problem: string;
}

/** Performs one run. Never throws for what the agent or the engine do: that is the outcome. */
export async function perform(run: PlannedRun, around: Surroundings): Promise<RunOutcome> {
  const running = new Running(run, around);
  const timer = new AbortController();
  const overdue = delay(RUN_MS_MAX, undefined, { signal: timer.signal }).then(
    () => `not completed after ${RUN_MS_MAX / 1_000} s`,
    () => "",
  );
  const problem = await Promise.race([running.toTheEnd().catch((error: unknown) => String(error)), overdue]);
  timer.abort();
  return running.outcome(problem);
}

class Running {
  private readonly events: Event[] = [];
  private readonly watch: Watch;
  private agent: Child | undefined;
  private starts = 0;
  private killMs = 0;
  private resumeMs: number | undefined;
  private restarting: Promise<void> | undefined;
  private paused = "";

  constructor(
    private readonly run: PlannedRun,
    private readonly around: Surroundings,
  ) {
    this.watch = new Watch(around.wire, { workflow: around.workflow, key: run.name }, (event) => this.see(event));
  }

  /** Returns what went wrong; empty when an agent ended in good order and the session had completed. */
  async toTheEnd(): Promise<string> {
    this.startAgent();
    for (;;) {
      const problem = await Promise.race([this.agentsEnd(), this.watch.failed]);
      if (problem !== "") return problem;
      const agent = this.agent;
      const status = await this.sessionsEnd();
      if (status !== SessionStatus.COMPLETED) return `the agent ended while the session was ${SessionStatus[status]}`;
      // A kill at the last boundary comes after the session's end: another agent must find the result again.
      await this.restarting;
      if (this.agent === agent) return "";
    }
  }

  async outcome(problem: string): Promise<RunOutcome> {
    this.watch.stop();
    this.agent?.kill();
    const { run, events, killMs, resumeMs } = this;
    const why = problem === "" ? "" : `${problem}${this.paused}\n${this.agent?.tail() ?? ""}`;
    return {
      run,
      sessionId: this.watch.sessionId,
      completed: problem === "",
      killed: killMs > 0,
      killMs,
      resumeMs,
      events,
      problem: why,
    };
  }

  /** The session's status when it has ended; UNSPECIFIED when it does not although its agent is gone. */
  private async sessionsEnd(): Promise<SessionStatus> {
    const timer = new AbortController();
    const overdue = delay(SESSION_END_MS_MAX, SessionStatus.UNSPECIFIED, { signal: timer.signal });
    overdue.catch(() => undefined);
    const status = await Promise.race([this.watch.ended, overdue]);
    timer.abort();
    return status;
  }

  /** Waits until an agent ended in good order; returns what went wrong. */
  private async agentsEnd(): Promise<string> {
    for (;;) {
      const agent = this.agent;
      const exit = await agent?.exited;
      await this.restarting;
      if (this.agent !== agent) continue;
      if (exit?.code === 0) return "";
      return `the agent ended with code ${exit?.code} (${exit?.signal})`;
    }
  }

  private see(event: Event): void {
    this.events.push(event);
    if (event.body.case === "sessionStarted") {
      this.around.onSession(event.body.value.rootId);
    }
    if (event.body.case === "sessionPaused") this.paused = ` (paused: ${PauseReason[event.body.value.reason]})`;
    const { place } = this.run;
    if (place !== undefined && this.killMs === 0 && Number(event.seq) === place.seq) {
      if (place.waitMs > 0) setTimeout(() => this.strike(), place.waitMs);
      else this.strike();
    } else if (this.killMs > 0 && this.resumeMs === undefined && isProgress(event)) {
      // What the dying engine or agent still got through is no resumption.
      if (Number(event.timeMs) > this.killMs + 1) this.resumeMs = resumedAfterMs(this.run.target, this.killMs, event);
    }
    this.around.onEvent(event);
  }

  /** kill -9 of what the run is about, then its restart. */
  private strike(): void {
    const { target } = this.run;
    const agentToo = target !== "engine" && (this.agent?.kill() ?? false);
    const engineToo = target !== "agent" && this.around.engine.kill();
    if (!agentToo && !engineToo) return;
    this.killMs = Date.now();
    this.restarting = this.restart(target !== "engine", engineToo);
  }

  private async restart(agent: boolean, engine: boolean): Promise<void> {
    if (engine) await this.around.engine.restart();
    if (!agent) return;
    await this.agent?.exited;
    rmSync(this.workFolder(), { recursive: true, force: true });
    this.startAgent();
  }

  private startAgent(): void {
    this.starts += 1;
    if (this.starts > STARTS_MAX) throw new Error(`the agent was started ${STARTS_MAX} times`);
    mkdirSync(this.workFolder());
    this.agent = this.around.startAgent(this.workFolder(), this.starts);
  }

  /** Another one for every start. */
  private workFolder(): string {
    return join(this.around.folder, `work-${this.starts}`);
  }
}
