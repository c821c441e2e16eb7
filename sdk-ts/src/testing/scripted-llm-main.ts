/**
 * The scripted model as a process: `node scripted-llm-main.js [--port N] [--record FILE] [--script FILE] [--delay-ms N]`.
 *
 * The script is a module whose default export is a {@link Script}, or a JSON file with a list of answers.
 * Prints `{"url":…,"baseUrl":…,"pid":…}` and ends when its standard input does.
 */
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { failToStart, serveUntilParentEnds, wholeNumber } from "./main.js";
import { type Script, startScriptedLlm } from "./scripted-llm.js";

async function loadScript(file: string): Promise<Script> {
  if (file.endsWith(".json")) return JSON.parse(readFileSync(file, "utf8")) as Script;
  const module = (await import(pathToFileURL(resolve(file)).href)) as { default?: Script };
  if (module.default === undefined) throw new Error(`${file} has no default export; export the script from it`);
  return module.default;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      port: { type: "string" },
      record: { type: "string" },
      script: { type: "string" },
      "delay-ms": { type: "string" },
      "first-byte-delay-ms": { type: "string" },
      "max-lifetime-ms": { type: "string" },
    },
  });
  const server = await startScriptedLlm({
    port: wholeNumber("port", values.port, 0),
    delivery: {
      chunkDelayMs: wholeNumber("delay-ms", values["delay-ms"], 0),
      firstByteDelayMs: wholeNumber("first-byte-delay-ms", values["first-byte-delay-ms"], 0),
    },
    ...(values.record === undefined ? {} : { recordFile: values.record }),
    ...(values.script === undefined ? {} : { script: await loadScript(values.script) }),
  });
  const lifetime = values["max-lifetime-ms"];
  serveUntilParentEnds(
    server,
    { url: server.url, baseUrl: server.baseUrl },
    lifetime === undefined ? undefined : wholeNumber("max-lifetime-ms", lifetime, 0),
  );
}

await main().catch(failToStart);
