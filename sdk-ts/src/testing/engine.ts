/**
 * A real engine for tests: a process of its own on a folder and a port of its own.
 *
 * Owns: its process, and its folder unless one was given. Never: finds or builds the program.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sleep } from "./http.js";

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
export interface TestEngine {
  /** For `createClient({ connection })` and `createWorker`; the same after a restart. */
  readonly connection: { url: string; token: string; ca: string };
  readonly folder: string;
  /** What it logged so far. */
  log(): string;
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
    const args = ["dev", "--data", this.folder, "--listen", listen, ...this.flags];
    const child = spawn(this.program, args, { stdio: ["ignore", "pipe", "pipe"] });
    this.child = child;
    // Opened at once: its folder may be gone by the time that a stream would open it.
    const log = createWriteStream(this.logFile, { fd: openSync(this.logFile, "a") });
    child.stdout?.pipe(log, { end: false });
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
