/**
 * `make demo`: kills an agent and its engine everywhere and shows what it cost. `scripts/demo --help` says how.
 */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ENGINE_TIMES_MS } from "#sdk/harness/engine.js";
import { Processes } from "#sdk/harness/processes.js";
import { Screen } from "#sdk/harness/screen.js";
import { AGENT_MAIN } from "./agent.js";
import { Demo, type Setting } from "./demo.js";
import { seconds } from "./figures.js";
import { parseOptions } from "./options.js";
import { faults, resultOf } from "./result.js";

/** Exit codes: 0 all held, 1 something did not, 64 wrong arguments. */
const WRONG_ARGUMENTS = 64;

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2));
  const program = process.env.CELLAFLOW_BIN ?? "";
  for (const file of [program, AGENT_MAIN]) {
    if (!existsSync(file))
      throw new Error(`${file || "CELLAFLOW_BIN"} does not exist; run scripts/demo, which builds it`);
  }
  const screen = new Screen(process.stdout, options.json);
  const folder = mkdtempSync(join(tmpdir(), "cellaflow-demo-"));
  const processes = new Processes();
  const cleanUp = async (): Promise<void> => {
    await processes.end();
    if (options.keep) console.error(`demo: everything was kept in ${folder}`);
    else rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  };
  for (const [signal, code] of Object.entries({ SIGINT: 130, SIGTERM: 143, SIGHUP: 129 })) {
    process.once(signal, () => {
      screen.hush();
      void cleanUp().finally(() => process.exit(code));
    });
  }
  try {
    return await show({
      options,
      screen,
      processes,
      folder,
      program,
      repository: process.env.CELLAFLOW_TOP ?? process.cwd(),
      environment: cleanEnvironment(),
    });
  } finally {
    await cleanUp();
  }
}

async function show(setting: Setting): Promise<number> {
  const { screen } = setting;
  const started = Date.now();
  screen.say(times());
  const demo = await Demo.start(setting);
  await demo.perform();
  const judged = await demo.measure();
  screen.settle(demo.draw(160));
  const archived = await demo.archive();
  await demo.stop();
  screen.settle(archived.report);
  const measured = { ...judged, archivedEvents: archived.events, archiveDifferences: archived.differences };
  const found = faults(measured);
  for (const fault of found) console.error(`demo: ${fault}`);
  screen.say(found.length === 0 ? `all promises held; took ${seconds(Date.now() - started)}` : "NOT all promises held");
  screen.last(JSON.stringify({ demo: resultOf(measured) }));
  return found.length === 0 ? 0 : 1;
}

function times(): string {
  const { lease_ttl, guard_attempt, guard_grace } = ENGINE_TIMES_MS;
  return (
    `shorter times than the defaults, so that a kill is noticed soon: lease ${lease_ttl / 1_000} s instead of 15, ` +
    `guarded attempt ${guard_attempt / 1_000} s instead of 30, grace ${guard_grace / 1_000} s instead of 5`
  );
}

/** Nothing that a person set for another engine, provider or mail server reaches the demo's processes. */
function cleanEnvironment(): NodeJS.ProcessEnv {
  const kept = ["PATH", "HOME", "LANG", "TMPDIR", "USER"];
  return Object.fromEntries(
    kept.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])),
  );
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(`demo: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = (error as { code?: string }).code?.startsWith("ERR_PARSE_ARGS") ? WRONG_ARGUMENTS : 1;
}
