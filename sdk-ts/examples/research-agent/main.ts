/**
 * Runs the research agent on an engine of its own and kills worker, engine and compactor while it works:
 *
 *     node dist/examples/research-agent/main.js [--turns 200] [--budget 32000] [--wait-ms 2000] [--kills 8] [--json]
 *
 * Prints tokens and cost beside the same calls with the whole conversation in each, and how many model requests were made
 * twice. The model is a scripted one. `CELLAFLOW_BIN` names the engine (`source scripts/env`), `CELLAFLOW_COMPACTOR_BIN`
 * the compactor if it does not lie beside.
 */
import { parseArgs } from "node:util";
import { compacted, PRICES, table, whole } from "./money.js";
import { research } from "./run.js";

const { values } = parseArgs({
  options: {
    turns: { type: "string", default: "200" },
    budget: { type: "string", default: "32000" },
    "wait-ms": { type: "string", default: "2000" },
    kills: { type: "string", default: "8" },
    json: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});
if (values.help) {
  console.log("usage: main.js [--turns N] [--budget TOKENS] [--wait-ms MS] [--kills N] [--json]");
  console.log("example: main.js --turns 60 --kills 4");
  process.exit();
}

const budget = Number(values.budget);
const { result, calls, contexts, kills, requests, redundant, repeated, seconds } = await research({
  turns: Number(values.turns),
  budget,
  waitMs: Number(values["wait-ms"]),
  kills: Number(values.kills),
  tell: (line) => (values.json ? undefined : console.log(line)),
});
const sources = Object.fromEntries(
  ["raw", "ccs", "window"].map((source) => [source, contexts.filter((one) => one.source === source).length]),
);
const output = result.status === "completed" ? result.output : result;
if (values.json) {
  const bills = { whole: whole(calls, PRICES), compacted: compacted(calls, PRICES) };
  const over = contexts.filter(({ tokens }) => tokens > budget).length;
  console.log(JSON.stringify({ output, ...bills, sources, over, kills, requests, redundant, repeated, seconds }));
} else {
  console.log(output);
  for (const line of table(calls, PRICES)) console.log(line);
  console.log(`contexts: ${JSON.stringify(sources)}; budget ${budget.toLocaleString("en-US")} tokens`);
  console.log(`killed: ${JSON.stringify(kills)}; ${seconds.toFixed(0)} s`);
  console.log(
    `model requests: ${requests}, redundant ${redundant.length}; ${repeated} again whose answer died with its worker`,
  );
}
process.exit(result.status === "completed" && redundant.length === 0 ? 0 : 1);
