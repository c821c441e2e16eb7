/**
 * The processes of the demo and of the kill matrix: each is started here, known by its own pid, and ended by it.
 *
 * Invariants:
 * - P1 Nothing that was started here outlives the program that started it, unless that itself is killed with -9.
 * - P2 Only processes started here are ever killed.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream, openSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";

/** How a process ended. */
export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** How to start a process. */
export interface Launch {
  command: string;
  args: readonly string[];
  /** The whole environment; nothing is inherited beside it. */
  env: NodeJS.ProcessEnv;
  cwd: string;
  /** Where its standard error goes, and its standard output unless {@link onLine} takes it. */
  logFile: string;
  onLine?: (line: string) => void;
}

/** Lines of a log shown when a process failed. */
const TAIL_LINES = 15;

/** A process that was started here. */
export class Child {
  readonly exited: Promise<Exit>;
  private exit: Exit | undefined;

  constructor(
    private readonly process: ChildProcess,
    private readonly logFile: string,
  ) {
    this.exited = new Promise((resolve) => {
      const ended = (code: number | null, signal: NodeJS.Signals | null): void => {
        this.exit ??= { code, signal };
        resolve(this.exit);
      };
      process.once("exit", ended);
      process.once("error", () => ended(null, null));
    });
  }

  get pid(): number {
    return this.process.pid ?? 0;
  }

  get running(): boolean {
    return this.exit === undefined && this.process.pid !== undefined;
  }

  /** Sends kill -9; returns false when the process had already ended. */
  kill(): boolean {
    return this.running && this.process.kill("SIGKILL");
  }

  /** Sends SIGSTOP: it does nothing until {@link proceed}; returns false when it had already ended. */
  freeze(): boolean {
    return this.running && this.process.kill("SIGSTOP");
  }

  /** Sends SIGCONT. */
  proceed(): void {
    if (this.running) this.process.kill("SIGCONT");
  }

  /** Asks it to end; after the grace it is killed. */
  async stop(graceMs = 3_000): Promise<void> {
    if (!this.running) return;
    this.process.kill("SIGTERM");
    const timer = setTimeout(() => this.kill(), graceMs);
    await this.exited;
    clearTimeout(timer);
  }

  /** The last lines it logged. */
  tail(): string {
    try {
      return readFileSync(this.logFile, "utf8").trimEnd().split("\n").slice(-TAIL_LINES).join("\n");
    } catch {
      return "(no log)";
    }
  }
}

/** All processes of one program. */
export class Processes {
  private readonly children = new Set<Child>();
  private ending = false;

  launch(how: Launch): Child {
    if (this.ending) throw new Error("everything ends: nothing is started any more");
    // Opened at once: a folder that is removed right after a program was found missing must not be looked up later.
    const log = createWriteStream(how.logFile, { fd: openSync(how.logFile, "a") });
    const started = spawn(how.command, how.args, {
      env: how.env,
      cwd: how.cwd,
      // A pipe that is never written to: the test servers end when it closes, so with the demo.
      stdio: ["pipe", "pipe", "pipe"],
    });
    started.stdin?.on("error", () => undefined);
    started.stderr?.pipe(log, { end: false });
    if (how.onLine === undefined) started.stdout?.pipe(log, { end: false });
    else createInterface({ input: started.stdout }).on("line", how.onLine);
    const child = new Child(started, how.logFile);
    this.children.add(child);
    void child.exited.then(() => {
      this.children.delete(child);
      setImmediate(() => log.end());
    });
    return child;
  }

  /** Starts a server that prints where it listens as its first line of JSON. */
  async serve(how: Launch): Promise<{ child: Child; ready: Record<string, string> }> {
    let child: Child | undefined;
    const ready = await new Promise<Record<string, string>>((resolve, reject) => {
      const onLine = (line: string): void => resolve(JSON.parse(line) as Record<string, string>);
      const started = this.launch({ ...how, onLine });
      child = started;
      void started.exited.then(({ code }) =>
        reject(new Error(`${how.args[0]} ended with code ${code}:\n${started.tail()}`)),
      );
    });
    return { child: child as Child, ready };
  }

  /** Kills whatever still runs, for good (P1). */
  async end(): Promise<void> {
    this.ending = true;
    const left = [...this.children];
    for (const child of left) child.kill();
    await Promise.all(left.map((child) => child.exited));
  }
}
