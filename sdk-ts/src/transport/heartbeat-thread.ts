/**
 * The thread that renews leases while the main one is blocked. It has a connection of its own: the main thread's cannot
 * be shared.
 *
 * Owns: its timer. Never: a session, or anything else that the engine knows of this process.
 */
import { parentPort, workerData } from "node:worker_threads";
import { GrpcClient } from "./grpc.js";
import { Beats } from "./heartbeat.js";
import { type BeatOrders, type BeatReport, Liveness } from "./liveness.js";

const orders = workerData as BeatOrders;
const liveness = new Liveness(orders.liveness);
const beats = new Beats(new GrpcClient(orders.found), orders.instance);
let timer: NodeJS.Timeout | undefined;

const tell = (report: BeatReport): void => parentPort?.postMessage(report);

async function beat(everyMs: number): Promise<void> {
  if (liveness.stillMs > orders.blockedMsMax) return; // B3
  tell((await beats.beat(everyMs)) ? "alive" : "dead");
}

/** Beats every so many ms; 0: not at all. */
function run(everyMs: number): void {
  clearInterval(timer);
  timer = undefined;
  if (everyMs === 0) return;
  void beat(everyMs);
  timer = setInterval(() => void beat(everyMs), everyMs);
}

parentPort?.on("message", run);
run(orders.everyMs);
