/**
 * A worker as a process of its own, that can be killed, frozen, or made to die exactly at an event.
 *
 * Owns: its process. Never: runs workflows in this one.
 *
 * Invariant W1: the worker ends with the process that started it, even if that is killed.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { ConnectionOptions } from "../transport/lookup.js";

/** Where a worker dies or stands still. */
export interface CrashPoint {
  /** Seq of an event. It is durable, the worker has just been told of it, and nothing else came of it. */
  seq: number;
  /** Only in this session. Default: in whichever comes to that event first. */
  sessionId?: string;
}

/** Settings of a worker process. */
export interface WorkerProcessOptions {
  /** Where the engine is: a {@link TestEngine}'s `connection`. */
  connection: ConnectionOptions;
  /** Compiled module: every workflow that it exports, one by one or in lists, is served. */
  module: URL | string;
  /** More environment. */
  env?: Record<string, string>;
  /** Working folder. Default: this process's. */
  cwd?: string;
  /** Where it dies, as by kill -9. Default: nowhere. */
  crashAfter?: CrashPoint;
  /** Where it stands still, as by SIGSTOP, until `proceed()`. Default: nowhere. */
  freezeAfter?: CrashPoint;
}

/** A running worker process. */
export interface WorkerProcess extends AsyncDisposable {
  readonly pid: number;
  /** Settles when it has ended: with the signal that ended it, or with its exit code. */
  readonly exited: Promise<NodeJS.Signals | number>;
  /** What it wrote to its standard output and error. */
  log(): string;
  /** kill -9. */
  kill(): Promise<void>;
  /** SIGSTOP: it does nothing, as if its machine were suspended. */
  freeze(): void;
  /** SIGCONT: it goes on where it was. */
  proceed(): void;
  /** Asks it to give its sessions back and to end, and waits. */
  close(): Promise<void>;
}

const MAIN = fileURLToPath(new URL("./worker-process-main.js", import.meta.url));

/** Starts a worker as a process of its own. It serves as soon as it has connected. */
export function startWorkerProcess(options: WorkerProcessOptions): WorkerProcess {
  const { connection, module, env, cwd, crashAfter, freezeAfter } = options;
  const { url = "", token = "", ca = "" } = connection;
  const child = spawn(process.execPath, ["--enable-source-maps", MAIN, String(module)], {
    env: {
      ...process.env,
      CELLAFLOW_URL: url,
      CELLAFLOW_TOKEN: token,
      CELLAFLOW_CA: ca,
      ...env,
      CELLAFLOW_TEST_HITS: JSON.stringify({ SIGKILL: crashAfter, SIGSTOP: freezeAfter }),
    },
    cwd,
    stdio: ["pipe", "pipe", "pipe"], // W1
  });
  return new Process(child);
}

class Process implements WorkerProcess {
  readonly exited: Promise<NodeJS.Signals | number>;
  private text = "";

  constructor(private readonly child: ChildProcess) {
    child.stdin?.on("error", () => undefined);
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => {
        this.text += text;
      });
    }
    this.exited = new Promise((resolve) => {
      child.once("exit", (code, signal) => resolve(signal ?? code ?? 0));
      child.once("error", () => resolve(-1));
    });
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  log(): string {
    return this.text;
  }

  async kill(): Promise<void> {
    this.child.kill("SIGKILL");
    await this.exited;
  }

  freeze(): void {
    this.child.kill("SIGSTOP");
  }

  proceed(): void {
    this.child.kill("SIGCONT");
  }

  async close(): Promise<void> {
    // A frozen process takes no other signal.
    this.proceed();
    this.child.kill("SIGTERM");
    await this.exited;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
