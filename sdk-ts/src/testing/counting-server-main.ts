/**
 * The counting server as a process: `node counting-server-main.js [--port N] [--record FILE] [--honour-key]`.
 * Prints `{"url":…,"pid":…}` and ends when its standard input does.
 */
import { parseArgs } from "node:util";
import { startCountingServer } from "./counting-server.js";
import { failToStart, serveUntilParentEnds, wholeNumber } from "./main.js";

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      port: { type: "string" },
      record: { type: "string" },
      "honour-key": { type: "boolean" },
      "max-lifetime-ms": { type: "string" },
    },
  });
  const server = await startCountingServer({
    port: wholeNumber("port", values.port, 0),
    honourKey: values["honour-key"] ?? false,
    ...(values.record === undefined ? {} : { recordFile: values.record }),
  });
  const lifetime = values["max-lifetime-ms"];
  serveUntilParentEnds(
    server,
    { url: server.url },
    lifetime === undefined ? undefined : wholeNumber("max-lifetime-ms", lifetime, 0),
  );
}

await main().catch(failToStart);
