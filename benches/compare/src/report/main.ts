/**
 * Writes BENCHMARKS.md and its charts from a summary: `node main.js SUMMARY_JSON TOP_FOLDER`.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { charts } from "./charts.js";
import { markdown } from "./markdown.js";
import type { Summary } from "./summary.js";

const [file, top] = process.argv.slice(2);
if (file === undefined || top === undefined) throw new TypeError("usage: node main.js SUMMARY_JSON TOP_FOLDER");
const summary = JSON.parse(readFileSync(file, "utf8")) as Summary;
const folder = join(top, "benches", "charts");
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
for (const { name, svg } of charts(summary)) writeFileSync(join(folder, name), svg);
writeFileSync(join(top, "BENCHMARKS.md"), markdown(summary));
