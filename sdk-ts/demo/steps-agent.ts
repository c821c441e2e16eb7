/**
 * An agent that does nothing but steps: `node steps-agent.js COUNT`. The audit has too few steps for a percentile.
 *
 * Its statistics have the form of the audit agent's and are written at the end: it is never killed.
 */
import { writeFileSync } from "node:fs";
import { createClient, workflow } from "@cellaflow/sdk";
import { z } from "zod";
import { STEPS_WORKFLOW, type Statistic } from "./agent.js";

const Input = z.object({ count: z.number() });

const steps = workflow({ name: STEPS_WORKFLOW, version: "1", input: Input }, async (ctx, { count }) => {
  for (let n = 1; n <= count; n += 1) {
    await ctx.step("step", ({ n }) => ({ n, said: "one small step" }), { input: { n } });
  }
});

const { env, argv } = process;
const statistics: Statistic[] = [];
const client = createClient({
  observer: {
    stepDelivered: ({ replayed, totalMs, ownMs }) => statistics.push({ kind: "step", replayed, totalMs, ownMs }),
  },
});
const result = await client.run(steps, { count: Number(argv[2]) }, { key: env.AUDIT_KEY ?? "steps" });
const lines = statistics.map((one) => `${JSON.stringify(one)}\n`);
if (env.CELLAFLOW_STATS_LOG !== undefined) writeFileSync(env.CELLAFLOW_STATS_LOG, lines.join(""));
process.exitCode = result.status === "completed" ? 0 : 1;
