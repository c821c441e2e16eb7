/**
 * A real engine as a process, that can be killed and started again on the same folder and port.
 */
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Child, Processes } from "./processes.js";
import { Rss } from "./rss.js";
import type { Connection } from "./wire.js";

/** An engine's times, in milliseconds. */
export interface EngineTimes {
  lease_ttl: number;
  guard_attempt: number;
  guard_grace: number;
}

/** The engine's settings in the demo: shorter than the defaults, so that a kill is noticed soon. */
export const ENGINE_TIMES_MS: EngineTimes = { lease_ttl: 2_000, guard_attempt: 2_000, guard_grace: 1_000 };

/** How long an engine may take to serve, in ms. */
const START_MS_MAX = 20_000;

/** An engine. */
export class Engine {
  readonly rss = new Rss();
  private child: Child | undefined;
  private readonly logFile: string;
  private readonly dataDir: string;

  private constructor(
    private readonly processes: Processes,
    private readonly program: string,
    folder: string,
    private readonly environment: NodeJS.ProcessEnv,
    private readonly times: EngineTimes,
  ) {
    mkdirSync(folder, { recursive: true });
    this.logFile = join(folder, "engine.log");
    this.dataDir = join(folder, "data");
  }

  /** Starts an engine on a new data folder and a free port. */
  static async start(
    processes: Processes,
    program: string,
    folder: string,
    environment: NodeJS.ProcessEnv,
    times = ENGINE_TIMES_MS,
  ): Promise<Engine> {
    const engine = new Engine(processes, program, folder, environment, times);
    await engine.up("127.0.0.1:0");
    return engine;
  }

  /** What clients need; the same after every restart. */
  get connection(): Connection {
    return JSON.parse(readFileSync(join(this.dataDir, "connection.json"), "utf8")) as Connection;
  }

  /** Of the process now; 0: none. */
  get pid(): number {
    return this.child?.pid ?? 0;
  }

  /** False once its process has ended. */
  get running(): boolean {
    return this.child?.running ?? false;
  }

  /** The last lines it logged. */
  tail(): string {
    return this.child?.tail() ?? "";
  }

  /** kill -9; returns false when it had already ended. */
  kill(): boolean {
    return this.child?.kill() ?? false;
  }

  /** Starts it again: same folder, same port. */
  async restart(): Promise<void> {
    const { host } = new URL(this.connection.url);
    await this.child?.exited;
    await this.up(host);
  }

  async stop(): Promise<void> {
    this.rss.stop();
    await this.child?.stop();
  }

  private async up(listen: string): Promise<void> {
    const child = this.processes.launch({
      command: this.program,
      args: ["dev"],
      env: {
        ...this.environment,
        CELLAFLOW_ENGINE_DATA_DIR: this.dataDir,
        CELLAFLOW_ENGINE_LISTEN: listen,
        CELLAFLOW_ENGINE_COMPACTOR: "off",
        CELLAFLOW_ENGINE_LEASE_TTL_MS: String(this.times.lease_ttl),
        CELLAFLOW_ENGINE_GUARD_ATTEMPT_MS: String(this.times.guard_attempt),
        CELLAFLOW_ENGINE_GUARD_GRACE_MS: String(this.times.guard_grace),
      },
      cwd: join(this.dataDir, ".."),
      logFile: this.logFile,
    });
    this.child = child;
    this.rss.watch(child.pid);
    const deadline = Date.now() + START_MS_MAX;
    // The connection file is written for a port that is served, and names the process.
    while (this.servedBy() !== child.pid) {
      if (!child.running) throw new Error(`the engine ended while it started:\n${child.tail()}`);
      if (Date.now() > deadline)
        throw new Error(`the engine does not serve after ${START_MS_MAX} ms:\n${child.tail()}`);
      await delay(10);
    }
  }

  private servedBy(): number | undefined {
    try {
      return this.connection.pid;
    } catch {
      return undefined;
    }
  }
}
