/**
 * The local SMTP server as a process: `node smtp-main.js [--port N] [--http-port N] [--record FILE]`.
 * Prints `{"smtpUrl":…,"url":…,"pid":…}` and ends when its standard input does.
 */
import { parseArgs } from "node:util";
import { failToStart, serveUntilParentEnds, wholeNumber } from "./main.js";
import { startSmtp } from "./smtp.js";

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      port: { type: "string" },
      "http-port": { type: "string" },
      record: { type: "string" },
      "max-lifetime-ms": { type: "string" },
    },
  });
  const server = await startSmtp({
    port: wholeNumber("port", values.port, 0),
    httpPort: wholeNumber("http-port", values["http-port"], 0),
    ...(values.record === undefined ? {} : { recordFile: values.record }),
  });
  const lifetime = values["max-lifetime-ms"];
  serveUntilParentEnds(
    server,
    { smtpUrl: server.smtpUrl, url: server.url },
    lifetime === undefined ? undefined : wholeNumber("max-lifetime-ms", lifetime, 0),
  );
}

await main().catch(failToStart);
