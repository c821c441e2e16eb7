/**
 * The worker processes of one lane, for one example: started, killed, frozen, started again.
 *
 * Invariant C1: a killed worker's working folder is deleted with it: nothing of it is left to the next one.
 */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { linesOf } from "#sdk/harness/jsonl.js";
import type { Child } from "#sdk/harness/processes.js";
import { Strike } from "./strike.js";

/** Where a worker is started. */
export interface Place {
  workFolder: string;
  logFile: string;
  /** Its acknowledgement log. */
  acks: string;
  /** Where it is told how to be hit. */
  strikes: string;
}

interface Member {
  child: Child;
  workFolder: string;
}

/** Workers that are alive or frozen. */
export class Crew {
  private members: Member[] = [];
  private frozen: Member[] = [];
  readonly strike: Strike;
  private readonly ackFiles: string[] = [];
  private starts = 0;

  constructor(
    private readonly folder: string,
    private readonly launch: (where: Place) => Child,
  ) {
    mkdirSync(folder, { recursive: true });
    this.strike = new Strike(folder);
  }

  /** How many were started so far. */
  get started(): number {
    return this.starts;
  }

  /** Whether one is there and not frozen. */
  get present(): boolean {
    this.members = this.members.filter(({ child }) => child.running);
    return this.members.length > 0;
  }

  start(): void {
    this.starts += 1;
    const workFolder = join(this.folder, `work-${this.starts}`);
    mkdirSync(workFolder);
    const acks = join(this.folder, `acks-${this.starts}.jsonl`);
    this.ackFiles.push(acks);
    const logFile = join(this.folder, `worker-${this.starts}.log`);
    this.members.push({ child: this.launch({ workFolder, logFile, acks, strikes: this.folder }), workFolder });
  }

  /** kill -9 of those that are present; returns whether there was one. */
  async kill(): Promise<boolean> {
    const killed = await end(this.members);
    this.members = [];
    return killed;
  }

  /** SIGSTOP; returns whether there was anybody to stop. */
  freeze(): boolean {
    const stopped = this.members.filter(({ child }) => child.freeze());
    this.members = this.members.filter((member) => !stopped.includes(member));
    this.frozen.push(...stopped);
    return stopped.length > 0;
  }

  /** SIGCONT; they go on where they were. */
  proceed(): void {
    for (const { child } of this.frozen) child.proceed();
  }

  /** kill -9 of those that were frozen once. */
  async dismissFrozen(): Promise<void> {
    await end(this.frozen);
    this.frozen = [];
  }

  async close(): Promise<void> {
    await this.dismissFrozen();
    await this.kill();
  }

  /** Everything that was acknowledged to any of them. */
  acknowledged(): unknown[] {
    return this.ackFiles.flatMap(linesOf);
  }

  /** The last lines of the latest one's log. */
  tail(): string {
    return this.members.at(-1)?.child.tail() ?? "";
  }
}

async function end(members: readonly Member[]): Promise<boolean> {
  // All signals first: an example with several processes is hit at one moment.
  const killed = members.filter(({ child }) => child.kill());
  await Promise.all(killed.map(({ child }) => child.exited));
  for (const { workFolder } of members) rmSync(workFolder, { recursive: true, force: true });
  return killed.length > 0;
}
