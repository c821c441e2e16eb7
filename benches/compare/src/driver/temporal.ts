/** Temporal: a worker and a client; steps are activities. */
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Client, Connection } from "@temporalio/client";
import { DefaultLogger, type InjectedSinks, NativeConnection, Runtime, Worker } from "@temporalio/worker";
import type { Session } from "../job.js";
import type { Open } from "./adapter.js";
import { ANSWER_BYTES, begun, entered, TOOL_BYTES, work } from "./probe.js";
import type { BenchSinks } from "./temporal-workflow.js";

const TASK_QUEUE = "bench";
const WORKFLOWS = fileURLToPath(new URL("./temporal-workflow.js", import.meta.url));

const activities = {
  step: async (session: Session, n: number): Promise<string> => work(session, n),
  tool: async (session: Session, n: number): Promise<string> => work(session, n, TOOL_BYTES),
  model: async (session: Session, n: number, _messages: string[]): Promise<string> => work(session, n, ANSWER_BYTES),
};
export type Activities = typeof activities;

// P2 needs the time of the entry on replay, too.
const sinks: InjectedSinks<BenchSinks> = {
  bench: {
    entered: { fn: (_info, id) => entered(id), callDuringReplay: true },
  },
};

export const open: Open = async ({ address = "" }) => {
  Runtime.install({ logger: new DefaultLogger("ERROR") });
  const connection = await NativeConnection.connect({ address });
  const worker = await Worker.create({
    connection,
    taskQueue: TASK_QUEUE,
    workflowsPath: WORKFLOWS,
    activities,
    sinks,
  });
  const running = worker.run();
  running.catch((error: unknown) => process.emitWarning(String(error)));
  const client = new Client({
    connection: await Connection.connect({ address }),
  });
  return {
    async run(session) {
      const options = {
        taskQueue: TASK_QUEUE,
        workflowId: session.id,
        args: [session],
      };
      const handle = await client.workflow.start("bench", options);
      if (session.dieAfter > 0) await die(session);
      await handle.result();
    },
    // A lost activity would be found by its time-out only, so the session waits for a signal where it was left.
    resume: (session) => client.workflow.getHandle(session.id).signal("proceed"),
    async close() {
      worker.shutdown();
      await running;
    },
  };
};

/** Ends this process when the session has done the steps it may, and the server knows. */
async function die(session: Session): Promise<never> {
  while (begun(session.id) < session.dieAfter) await delay(50);
  await delay(1_000);
  process.kill(process.pid, "SIGKILL");
  return new Promise(() => {});
}
