/**
 * The worker that the matrix kills: `node worker-main.js MATRIX_MODULE NAME` serves the workflows of one example.
 *
 * It prints a line once it runs, takes sessions by dispatch and ends when it is told to.
 */
import { createWorker } from "@cellaflow/sdk";
import { examplesIn } from "./examples.js";
import { carryOutStrikes } from "./strike.js";

/** Short: outside actors are quick, and sessions that wait are to give their leases back. */
const LINGER_MS = 30;

const [module = "", name = ""] = process.argv.slice(2);
const example = (await examplesIn(module)).find((one) => one.name === name);
if (example === undefined || !("workflows" in example)) throw new Error(`${module} has no example "${name}"`);
carryOutStrikes();
const worker = createWorker({ workflows: example.workflows, suspendLingerMs: LINGER_MS });
console.error(`worker of ${name}: pid ${process.pid}`);
await worker.run({ handleSignals: true, shutdownGraceMs: 2_000 });
