/**
 * The compactor beside an engine: a process of its own that folds the conversations of sessions (`ctx.context`).
 *
 * Owns: its process. Never: finds or builds the program.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import type { ConnectionOptions } from "../transport/lookup.js";

/** Settings of a compactor. */
export interface CompactorOptions {
  /** Where the engine is: a {@link TestEngine}'s `connection`. */
  connection: ConnectionOptions;
  /** The program. Default: the environment's `CELLAFLOW_COMPACTOR_BIN`, else `cellaflow-compactor` beside `CELLAFLOW_BIN`. */
  program?: string;
}

/** A running compactor. */
export interface TestCompactor extends AsyncDisposable {
  /** What it wrote so far. */
  log(): string;
  /** kill -9. */
  kill(): Promise<void>;
  /** Starts it again after it was killed. */
  restart(): void;
  /** Asks it to stop and waits. */
  close(): Promise<void>;
}

/** Starts a compactor. It folds as soon as it has connected, and again after the engine was away. */
export function startCompactor(options: CompactorOptions): TestCompactor {
  const program = options.program ?? compactorProgram();
  if (program === undefined) {
    throw new Error("there is no compactor to start; set CELLAFLOW_COMPACTOR_BIN to the cellaflow-compactor program");
  }
  return new Compactor(program, options.connection);
}

/** Path of the compactor that {@link startCompactor} starts; undefined: there is none. */
export function compactorProgram(): string | undefined {
  const { CELLAFLOW_COMPACTOR_BIN: named, CELLAFLOW_BIN: engine } = process.env;
  const program = named || (engine ? join(dirname(engine), "cellaflow-compactor") : "");
  return existsSync(program) ? program : undefined;
}

class Compactor implements TestCompactor {
  private child: ChildProcess | undefined;
  private exited: Promise<unknown> = Promise.resolve();
  private text = "";

  constructor(
    private readonly program: string,
    private readonly connection: ConnectionOptions,
  ) {
    this.restart();
  }

  log(): string {
    return this.text;
  }

  async kill(): Promise<void> {
    this.child?.kill("SIGKILL");
    await this.exited;
  }

  restart(): void {
    const { url = "", token = "", ca = "" } = this.connection;
    const child = spawn(this.program, ["contexts"], {
      env: { PATH: process.env.PATH, CELLAFLOW_URL: url, CELLAFLOW_TOKEN: token, CELLAFLOW_CA: ca },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.child = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        this.text += text;
      });
    }
    this.exited = new Promise((resolve) => {
      child.once("exit", resolve);
      child.once("error", resolve);
    });
  }

  async close(): Promise<void> {
    this.child?.kill("SIGTERM");
    await this.exited;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
