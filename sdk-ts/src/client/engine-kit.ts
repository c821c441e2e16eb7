/**
 * A real engine for tests, that can be killed and started again on the same folder and port.
 *
 * Owns: its process and folder. Never: is part of the package's API.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { ConnectionOptions } from "../transport/lookup.js";

/** Times of test engines in ms: short, so that a takeover is soon. */
export const TIMES_MS = { lease_ttl: 1_500, guard_attempt: 1_000, guard_grace: 300 };

const START_MS_MAX = 20_000;

/** Path of the engine's binary; tests that need it fail without. */
export function engineProgram(): string {
  const program = process.env.CELLAFLOW_BIN;
  if (program === undefined || program === "") {
    throw new Error(
      "CELLAFLOW_BIN names no engine: run the tests with `make test`, or set it to target/debug/cellaflow",
    );
  }
  return program;
}

export class TestEngine implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), "cellaflow-sdk-"));
  private child: ChildProcess | undefined;
  private log = "";

  static async start(): Promise<TestEngine> {
    const engine = new TestEngine();
    await engine.up("127.0.0.1:0");
    return engine;
  }

  /** What clients need; the same after every restart. */
  get connection(): Required<Pick<ConnectionOptions, "url" | "token" | "ca">> {
    return this.file();
  }

  /** Starts a test's file (`import.meta.url`) as a process of its own that finds this engine; `variables` are added to its environment. */
  spawnAgain(file: string, variables: Readonly<Record<string, string>>): ChildProcess {
    const { url, token, ca } = this.connection;
    return spawn(process.execPath, [fileURLToPath(file)], {
      stdio: ["ignore", "ignore", "inherit"],
      env: {
        ...process.env,
        NODE_TEST_CONTEXT: "",
        CELLAFLOW_URL: url,
        CELLAFLOW_TOKEN: token,
        CELLAFLOW_CA: ca,
        ...variables,
      },
    });
  }

  /** kill -9, and start again after `downMs`. */
  async crash(downMs = 0): Promise<void> {
    const { host } = new URL(this.connection.url);
    await this.end("SIGKILL");
    await sleep(downMs);
    await this.up(host);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end("SIGKILL");
    rmSync(this.folder, { recursive: true, force: true });
  }

  private async end(signal: NodeJS.Signals): Promise<void> {
    const { child } = this;
    if (child === undefined || child.exitCode !== null) return;
    const exited = new Promise((resolve) => child.once("exit", resolve));
    child.kill(signal);
    await exited;
  }

  private async up(listen: string): Promise<void> {
    const env: NodeJS.ProcessEnv = {
      PATH: process.env.PATH,
      HOME: this.folder,
      CELLAFLOW_ENGINE_DATA_DIR: join(this.folder, "data"),
      CELLAFLOW_ENGINE_LISTEN: listen,
      // Tests that need one start their own.
      CELLAFLOW_ENGINE_COMPACTOR: "off",
    };
    for (const [name, ms] of Object.entries(TIMES_MS)) env[`CELLAFLOW_ENGINE_${name.toUpperCase()}_MS`] = String(ms);
    const child = spawn(engineProgram(), ["dev"], { env, cwd: this.folder, stdio: ["ignore", "ignore", "pipe"] });
    this.child = child;
    child.stderr.on("data", (data: Buffer) => {
      this.log = (this.log + data.toString()).slice(-4_000);
    });
    const deadline = Date.now() + START_MS_MAX;
    // The connection file is written when the port is served, and names the process.
    while (this.servedBy() !== child.pid) {
      if (child.exitCode !== null) throw new Error(`the engine ended while it started:\n${this.log}`);
      if (Date.now() > deadline) throw new Error(`the engine does not serve:\n${this.log}`);
      await sleep(10);
    }
  }

  private servedBy(): number | undefined {
    try {
      return this.file().pid;
    } catch {
      return undefined;
    }
  }

  private file(): { url: string; token: string; ca: string; pid?: number } {
    return JSON.parse(readFileSync(join(this.folder, "data", "connection.json"), "utf8"));
  }
}
