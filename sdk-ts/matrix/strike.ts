/**
 * How a worker is hit exactly at an event: the harness writes down where and how, the worker does it to itself as soon
 * as it is told of that event, before anything else comes of it.
 *
 * An event that no worker is told of while it is there (the session waits) is hit from outside, a little later.
 *
 * Invariant K1: a strike is claimed once, by whoever creates the claim first; nobody else strikes any more.
 */
import { closeSync, existsSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { watchEvents } from "#sdk/internal/crash-point.js";

/** Where and how a worker is hit. */
export interface Order {
  sessionId: string;
  seq: number;
  /** Of the engine, which is killed first; 0: it is left alone. */
  enginePid: number;
  signal: "SIGKILL" | "SIGSTOP";
}

/** Environment variable that names the folder. */
export const STRIKE_FOLDER = "CELLAFLOW_MATRIX_STRIKE";

/** The strike of one run at a time, in a folder that the harness and its workers share. */
export class Strike {
  private readonly order: string;
  private readonly claim: string;

  constructor(folder: string) {
    this.order = join(folder, "strike.json");
    this.claim = join(folder, "strike.claimed");
  }

  /** Gives the order. */
  arm(order: Order): void {
    writeFileSync(`${this.order}.part`, JSON.stringify(order));
    renameSync(`${this.order}.part`, this.order);
  }

  /** Forgets order and claim: the next run begins. */
  clear(): void {
    rmSync(this.order, { force: true });
    rmSync(this.claim, { force: true });
  }

  /** Claims the strike (K1); false: somebody else did. */
  take(): boolean {
    try {
      closeSync(openSync(this.claim, "wx"));
      return true;
    } catch {
      return false;
    }
  }

  /** Whether somebody did. */
  get taken(): boolean {
    return existsSync(this.claim);
  }

  /** The order; undefined: there is none. */
  read(): Order | undefined {
    try {
      return JSON.parse(readFileSync(this.order, "utf8")) as Order;
    } catch {
      return undefined;
    }
  }
}

/** Makes this process carry out what is ordered in the folder that its environment names. */
export function carryOutStrikes(): void {
  const folder = process.env[STRIKE_FOLDER];
  if (folder === undefined) return;
  const strike = new Strike(folder);
  watchEvents((sessionId, seq) => {
    const order = strike.read();
    if (order?.sessionId !== sessionId || order.seq !== seq || !strike.take()) return;
    if (order.enginePid > 0) process.kill(order.enginePid, "SIGKILL");
    process.kill(process.pid, order.signal);
  });
}
