/**
 * A server's process.
 *
 * Owns: starting, capping its memory, ending it whatever happens to us. Never: knows what it runs.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

/** How long a server may take until it serves, in ms. */
const READY_MS_MAX = 60_000;
/** How long it may take to stop before it is killed, in ms. */
const STOP_MS_MAX = 15_000;

/** What to start. */
export interface Launch {
  command: string;
  args: readonly string[];
  folder: string;
  env?: NodeJS.ProcessEnv;
  /** Most memory in bytes; needs a memory cgroup that may be written. */
  memoryMax?: number | undefined;
  /** Runs it as this user and group; servers that refuse root need one. */
  user?: { uid: number; gid: number } | undefined;
  /** SIGTERM unless the server wants another one. */
  stopSignal?: NodeJS.Signals;
}

const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** A server that was started. */
export class ServerProcess {
  private constructor(
    private readonly child: ChildProcess,
    private readonly launch: Launch,
    private readonly cap: Cap | undefined,
    private readonly log: string,
  ) {}

  static start(launch: Launch): ServerProcess {
    const log = join(launch.folder, "server.log");
    const out = openSync(log, "a");
    const cap = launch.memoryMax === undefined ? undefined : Cap.of(launch.memoryMax);
    const [command = "", ...args] = [...asUser(launch.user), launch.command, ...launch.args];
    // The shell enters the cgroup and then becomes the server: nothing is allocated outside.
    const enter = cap === undefined ? "" : `echo $$ > ${cap.tasks} && `;
    const child = spawn("sh", ["-c", `${enter}exec "$0" "$@"`, command, ...args], {
      cwd: launch.folder,
      env: { PATH: process.env.PATH, HOME: launch.folder, ...launch.env },
      stdio: ["ignore", out, out],
    });
    closeSync(out);
    child.on("error", () => {}); // seen as an exit
    running.add(child);
    child.once("exit", () => running.delete(child));
    return new ServerProcess(child, launch, cap, log);
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  get ended(): boolean {
    return this.child.pid === undefined || this.child.exitCode !== null || this.child.signalCode !== null;
  }

  /** Whether the memory cap holds; undefined: there is none. */
  get capped(): boolean {
    return this.cap !== undefined;
  }

  /** Its last lines. */
  tail(): string {
    return readFileSync(this.log, "utf8").slice(-2_000);
  }

  /** Waits until `serves` says so. @throws Error when it ends first, or takes too long */
  async ready(serves: () => Promise<boolean> | boolean): Promise<void> {
    const deadline = Date.now() + READY_MS_MAX;
    while (!(await serves())) {
      if (this.ended || Date.now() > deadline)
        throw new Error(`${this.launch.command} does not serve:\n${this.tail()}`);
      await delay(50);
    }
  }

  async stop(): Promise<void> {
    if (!this.ended) {
      const exited = once(this.child, "exit");
      this.child.kill(this.launch.stopSignal ?? "SIGTERM");
      const late = setTimeout(() => this.child.kill("SIGKILL"), STOP_MS_MAX);
      await exited;
      clearTimeout(late);
    }
    this.cap?.remove();
  }
}

/** The user is changed last: only root may enter a cgroup. */
function asUser(user: Launch["user"]): string[] {
  return user === undefined ? [] : ["setpriv", `--reuid=${user.uid}`, `--regid=${user.gid}`, "--clear-groups"];
}

/** A memory cgroup of one server. */
class Cap {
  private constructor(
    private readonly folder: string,
    readonly tasks: string,
  ) {}

  /** Undefined where the kernel or this user's rights do not allow it. */
  static of(bytes: number): Cap | undefined {
    for (const [root, file] of [
      ["/sys/fs/cgroup/memory", "memory.limit_in_bytes"],
      ["/sys/fs/cgroup", "memory.max"],
    ] as const) {
      const folder = join(root, `cellaflow-bench-${process.pid}-${Date.now()}`);
      try {
        mkdirSync(folder);
        if (!existsSync(join(folder, file))) throw new Error("no memory controller here");
        writeFileSync(join(folder, file), String(bytes));
        return new Cap(folder, join(folder, "cgroup.procs"));
      } catch {
        removeCgroup(folder);
      }
    }
    return undefined;
  }

  remove(): void {
    removeCgroup(this.folder);
  }
}

function removeCgroup(folder: string): void {
  try {
    rmdirSync(folder);
  } catch {
    // Not made, or a process of it is still ending: the kernel keeps an empty folder, nothing else.
  }
}

/** Ports of 127.0.0.1 that are free now. */
export async function freePorts(count: number): Promise<number[]> {
  const listeners = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(listeners.map((listener) => once(listener, "listening")));
  const ports = listeners.map((listener) => {
    const address = listener.address();
    return typeof address === "object" && address !== null ? address.port : 0;
  });
  await Promise.all(listeners.map((listener) => once(listener.close(), "close")));
  return ports;
}

/** First line that a program prints, or undefined if it cannot be started. */
export function firstLine(command: string, args: readonly string[]): string | undefined {
  const { status, stdout } = spawnSync(command, args, { encoding: "utf8" });
  return status === 0 ? stdout.split("\n")[0]?.trim() : undefined;
}
