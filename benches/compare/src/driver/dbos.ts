/** DBOS: its library in this process, its state in PostgreSQL. */
import { DBOS } from "@dbos-inc/dbos-sdk";
import type { Session } from "../job.js";
import { loop, type Open } from "./adapter.js";

const run = DBOS.registerWorkflow(
  (session: Session) => loop(session, (name, fn) => DBOS.runStep(async () => fn(), { name })),
  { name: "bench" },
);

export const open: Open = async ({ database = "" }) => {
  DBOS.setConfig({
    name: "bench",
    systemDatabaseUrl: database,
    logLevel: "error",
    applicationVersion: "1",
  });
  await DBOS.launch();
  return {
    async run(session) {
      const handle = await DBOS.startWorkflow(run, { workflowID: session.id })(session);
      await handle.getResult();
    },
    close: () => DBOS.shutdown(),
  };
};
