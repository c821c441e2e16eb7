/**
 * A driver as a process: started on a server, asked to do jobs, one at a time.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { ContenderName, Server } from "./contender/contender.js";
import type { Answer, Done, Job, Request, Session } from "./job.js";

const MAIN = fileURLToPath(new URL("./driver/main.js", import.meta.url));
/** How long a job may take, in ms. */
const JOB_MS_MAX = 600_000;

const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** A driver's process died by its own hand, as it was told to. */
export const DIED = Symbol("the driver has killed itself");

/** A driver. */
export class Driver {
  private constructor(
    private readonly child: ChildProcess,
    private readonly log: string,
  ) {}

  /** Starts a driver; `resuming`: the session that a driver before this one has left. */
  static async start(name: ContenderName, server: Server, resuming?: string): Promise<Driver> {
    const folder = join(server.dataFolder, "..");
    const log = join(folder, "driver.log");
    const out = openSync(log, "a");
    const args = [name, JSON.stringify(server.address), ...(resuming === undefined ? [] : [resuming])];
    const child = fork(MAIN, args, {
      cwd: folder,
      serialization: "advanced",
      stdio: ["ignore", out, out, "ipc"],
      execArgv: ["--enable-source-maps"],
      // Restate's SDK logs two lines per invocation unless it is told not to.
      env: { PATH: process.env.PATH, HOME: folder, RESTATE_LOGGING: "ERROR" },
    });
    running.add(child);
    child.once("exit", () => running.delete(child));
    const driver = new Driver(child, log);
    await driver.answer();
    return driver;
  }

  /** Runs a job. @throws Error when it fails, or the driver ends */
  async run(job: Job): Promise<Done> {
    const answer = await this.ask({ do: "run", job });
    if (answer === DIED || !("done" in answer)) throw new Error(`unexpected answer to ${job.name}:\n${this.tail()}`);
    return answer.done;
  }

  /** Runs a job in which the driver kills itself. */
  async die(job: Job): Promise<void> {
    if ((await this.ask({ do: "run", job })) !== DIED)
      throw new Error(`${job.name} ended, though its driver had to die`);
  }

  /** Returns how long the replay of the session took that this driver was started for, in ms. */
  async resume(session: Session): Promise<number> {
    const answer = await this.ask({ do: "resume", session });
    if (answer === DIED || !("replayed" in answer)) throw new Error(`the replay failed:\n${this.tail()}`);
    return answer.replayed.replayMs;
  }

  async profile(on: boolean): Promise<void> {
    await this.ask({ do: "profile", on });
  }

  async end(): Promise<void> {
    if (!this.alive) return;
    const exited = once(this.child, "exit");
    this.child.send({ do: "end" } satisfies Request);
    const late = setTimeout(() => this.child.kill("SIGKILL"), 5_000);
    await exited;
    clearTimeout(late);
  }

  private get alive(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  private async ask(request: Request): Promise<Answer | typeof DIED> {
    this.child.send(request);
    return this.answer();
  }

  private async answer(): Promise<Answer | typeof DIED> {
    const waiting = new AbortController();
    const { signal } = waiting;
    const late = setTimeout(() => this.child.kill("SIGTERM"), JOB_MS_MAX);
    try {
      const message = once(this.child, "message", { signal }).then(([answer]) => answer as Answer);
      const exit = once(this.child, "exit", { signal }).then((): typeof DIED => {
        if (this.child.signalCode === "SIGKILL") return DIED;
        throw new Error(`the driver ended:\n${this.tail()}`);
      });
      const answer = await Promise.race([message, exit]);
      if (answer !== DIED && "failed" in answer) throw new Error(answer.failed);
      return answer;
    } finally {
      clearTimeout(late);
      waiting.abort();
    }
  }

  private tail(): string {
    return readFileSync(this.log, "utf8").slice(-2_000);
  }
}
