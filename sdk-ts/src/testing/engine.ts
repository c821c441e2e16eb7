/**
 * A real engine for tests: a process of its own on a folder and a port of its own, with a clock that can skip time.
 *
 * Owns: its process, and its folder unless one was given. Never: finds or builds the program.
 *
 * Invariants:
 * - E1 the engine ends with the process that started it, even if that is killed (its standard input ends then).
 * - E2 what was skipped stays skipped across restarts: its time never goes back.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { sleep } from "./http.js";
import { skipWhile } from "./skipping.js";

/** How long an engine may take to serve, in ms. */
const START_MS_MAX = 30_000;

/** Settings of an engine. */
export interface EngineOptions {
  /** The program. Default: the environment's `CELLAFLOW_BIN`. */
  program?: string;
  /** Its data folder. Default: a new one, deleted by `close`. */
  folder?: string;
  /** Further flags, e.g. `["--lease-ttl-ms", "2000"]`. */
  flags?: readonly string[];
}

/** A running engine. */
export interface TestEngine extends AsyncDisposable {
  /** For `createClient({ connection })` and `createWorker`; the same after a restart. */
  readonly connection: { url: string; token: string; ca: string };
  readonly folder: string;
  /** What it logged so far. */
  log(): string;
  /** Its wall clock now, in ms since the Unix epoch: this machine's, and what was skipped. */
  now(): number;
  /**
   * Moves its wall clock forward by so many milliseconds: timers, time-outs and expiries that come due by it do so at
   * once (within 100 ms). Leases go by another clock: who is alive keeps them.
   */
  skip(ms: number): Promise<void>;
  /**
   * Waits for a promise and skips the waiting: whenever no session runs and one waits for a moment, the clock is moved
   * to the next such moment. Settles as the promise does.
   */
  skipUntil<T>(promise: Promise<T>): Promise<T>;
  /** kill -9. */
  kill(): Promise<void>;
  /** Asks it to stop and waits. */
  stop(): Promise<void>;
  /** Starts it again on the same folder and port. */
  restart(): Promise<void>;
  /** Stops it and deletes its folder. */
  close(): Promise<void>;
}

/** Starts an engine and waits until it serves. */
export async function startEngine(options: EngineOptions = {}): Promise<TestEngine> {
  const program = options.program ?? process.env.CELLAFLOW_BIN;
  if (!program) throw new Error("there is no engine to start; set CELLAFLOW_BIN to the cellaflow program");
  const top = options.folder ?? mkdtempSync(join(tmpdir(), "cellaflow-engine-"));
  const engine = new Engine(program, top, options.flags ?? [], options.folder === undefined);
  await engine.up("127.0.0.1:0");
  return engine;
}

class Engine implements TestEngine {
  private child: ChildProcess | undefined;
  private exited: Promise<unknown> = Promise.resolve();
  private skippedMs = 0;
  private readonly answers: ((line: string) => void)[] = [];

  constructor(
    private readonly program: string,
    private readonly top: string,
    private readonly flags: readonly string[],
    private readonly temporary: boolean,
  ) {}

  get folder(): string {
    return join(this.top, "data");
  }

  get connection(): TestEngine["connection"] & { pid?: number } {
    return JSON.parse(readFileSync(join(this.folder, "connection.json"), "utf8")) as TestEngine["connection"];
  }

  log(): string {
    return readFileSync(this.logFile, "utf8");
  }

  now(): number {
    return Date.now() + this.skippedMs;
  }

  async skip(ms: number): Promise<void> {
    if (!Number.isSafeInteger(ms) || ms < 0) throw new Error(`skip(${ms}): pass a whole number of milliseconds`);
    const { child } = this;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) {
      throw new Error("the engine does not run: restart it before its clock is moved");
    }
    const answer = new Promise<string>((resolve, reject) => {
      this.answers.push(resolve);
      child.once("exit", () => reject(new Error("the engine ended while its clock was moved")));
    });
    child.stdin?.write(`skip ${ms}\n`);
    this.skippedMs = Number(/^skipped (\d+)$/.exec(await answer)?.[1] ?? this.skippedMs);
  }

  skipUntil<T>(promise: Promise<T>): Promise<T> {
    return skipWhile(this, promise);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async kill(): Promise<void> {
    this.child?.kill("SIGKILL");
    await this.exited;
  }

  async stop(): Promise<void> {
    this.child?.kill("SIGTERM");
    await this.exited;
  }

  async restart(): Promise<void> {
    await this.exited;
    await this.up(new URL(this.connection.url).host);
  }

  async close(): Promise<void> {
    await this.stop();
    if (this.temporary) rmSync(this.top, { recursive: true, force: true });
  }

  async up(listen: string): Promise<void> {
    mkdirSync(this.top, { recursive: true });
    const clock = ["--test-clock", String(this.skippedMs)]; // E2
    const args = ["dev", "--data", this.folder, "--listen", listen, ...clock, ...this.flags];
    const child = spawn(this.program, args, { stdio: ["pipe", "pipe", "pipe"] }); // E1
    this.child = child;
    child.stdin?.on("error", () => undefined);
    // Opened at once: its folder may be gone by the time that a stream would open it.
    const log = createWriteStream(this.logFile, { fd: openSync(this.logFile, "a") });
    createInterface({ input: child.stdout }).on("line", (line) => this.answers.shift()?.(line));
    child.stderr?.pipe(log, { end: false });
    this.exited = new Promise((resolve) => {
      child.once("exit", resolve);
      child.once("error", resolve);
    });
    const until = Date.now() + START_MS_MAX;
    // The connection file is written once the port is served, and names the process.
    while (this.servedBy() !== child.pid) {
      if (child.exitCode !== null || child.pid === undefined || Date.now() > until) {
        child.kill("SIGKILL");
        throw new Error(`the engine does not serve:\n${this.log()}`);
      }
      await sleep(10);
    }
  }

  private get logFile(): string {
    return join(this.top, "engine.log");
  }

  private servedBy(): number | undefined {
    try {
      return this.connection.pid;
    } catch {
      return undefined;
    }
  }
}
