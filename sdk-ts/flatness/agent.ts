/**
 * One process of an agent: `node agent.js turns KEY TURNS` runs it here, `node agent.js poller` serves it as a worker.
 * Prints one line of JSON per lap.
 *
 * It does the same work in another session first: a process that has just started compiles its code while it runs, so
 * its first steps would be the slowest, and steps that get slower would not be seen beside that.
 */
import { writeSync } from "node:fs";
import { createClient, createWorker } from "@cellaflow/sdk";
import { Laps, poller, turnsAgent } from "./agents.js";

const WARM_TURNS = 60;

const [what, key = "", turns = "0"] = process.argv.slice(2);
// At once: what this process knew is known when it is killed.
const laps = new Laps((lap) => writeSync(1, `${JSON.stringify(lap)}\n`));
const observer = { stepDelivered: laps.delivered };

if (what === "turns") {
  const client = createClient({ observer });
  await client.run(turnsAgent(new Laps(() => {})), { turns: WARM_TURNS }, {});
  const result = await client.run(turnsAgent(laps), { turns: Number(turns) }, { key });
  if (result.status !== "completed") throw new Error(`the agent is ${result.status}`);
} else {
  await createWorker({ workflows: [poller(laps)], observer }).run({ handleSignals: true });
}
