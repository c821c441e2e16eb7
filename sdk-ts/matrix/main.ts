/**
 * `make kill-matrix`: kills every example everywhere and compares. `scripts/kill-matrix --help` says how.
 */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Processes } from "#sdk/harness/processes.js";
import { Screen } from "#sdk/harness/screen.js";
import { allExamples, type FoundExample } from "./examples.js";
import type { Ground } from "./lane.js";
import { Matrix } from "./matrix.js";
import { type Options, parseOptions } from "./options.js";
import { faultsOf, resultOf } from "./result.js";

/** Exit codes: 0 all held, 1 something did not, 64 wrong arguments. */
const WRONG_ARGUMENTS = 64;

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2));
  const program = process.env.CELLAFLOW_BIN ?? "";
  if (!existsSync(program)) {
    throw new Error(`${program || "CELLAFLOW_BIN"} does not exist; run scripts/kill-matrix, which builds it`);
  }
  const examples = await chosen(options);
  const screen = new Screen(process.stdout, options.json, "kill-matrix");
  const folder = mkdtempSync(join(tmpdir(), "cellaflow-matrix-"));
  const processes = new Processes();
  const cleanUp = async (): Promise<void> => {
    await processes.end();
    if (options.keep) console.error(`kill-matrix: everything was kept in ${folder}`);
    else rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  };
  for (const [signal, code] of Object.entries({ SIGINT: 130, SIGTERM: 143, SIGHUP: 129 })) {
    process.once(signal, () => {
      screen.hush();
      void cleanUp().finally(() => process.exit(code));
    });
  }
  try {
    return await show({ processes, program, folder, environment: cleanEnvironment() }, options, screen, examples);
  } finally {
    await cleanUp();
  }
}

async function show(
  ground: Ground,
  options: Options,
  screen: Screen,
  examples: readonly FoundExample[],
): Promise<number> {
  const started = Date.now();
  const matrix = await Matrix.start({ ground, options, screen, examples });
  await matrix.perform();
  const measured = await matrix.measure();
  screen.say(`${matrix.summary()}; took ${((Date.now() - started) / 1_000).toFixed(0)} s`);
  const found = faultsOf(measured);
  for (const fault of found) console.error(`kill-matrix: ${fault}`);
  screen.say(found.length === 0 ? "every run came to the undisturbed run's end" : "NOT all promises held");
  screen.last(JSON.stringify(resultOf(measured)));
  return found.length === 0 ? 0 : 1;
}

async function chosen({ example: names, examples }: Options): Promise<readonly FoundExample[]> {
  const all = await (examples === "" ? allExamples() : allExamples(examples));
  const found = all.filter(({ example: { name } }) => {
    return names.length === 0 || names.some((wanted) => name === wanted || name.startsWith(`${wanted}/`));
  });
  if (found.length > 0) return found;
  const known = all.map(({ example }) => example.name).join(", ");
  throw Object.assign(new Error(`no example is called ${names.join(", ")}; there are ${known}`), {
    code: "ERR_PARSE_ARGS_EXAMPLE",
  });
}

/** Nothing that a person set for another engine, provider or mail server reaches the matrix's processes. */
function cleanEnvironment(): NodeJS.ProcessEnv {
  const kept = ["PATH", "HOME", "LANG", "TMPDIR", "USER"];
  return Object.fromEntries(
    kept.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])),
  );
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(`kill-matrix: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = (error as { code?: string }).code?.startsWith("ERR_PARSE_ARGS") ? WRONG_ARGUMENTS : 1;
}
// What a killed engine left open must not keep the program.
process.exit();
