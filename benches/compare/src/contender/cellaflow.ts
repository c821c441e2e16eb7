/** Cellaflow's engine, release build: TLS, tokens, every frame synced. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Contender } from "./contender.js";
import { packageVersion } from "./packages.js";
import { firstLine, ServerProcess } from "./process.js";

/** A dead worker's sessions are free after this long, in ms, where that is waited for. */
const LEASE_TTL_MS = 2_000;

const program = process.env.CELLAFLOW_BENCH_BIN ?? "";

/** Where an engine says how it is reached. */
interface Connection {
  url: string;
  token: string;
  ca: string;
  pid: number;
}

export const cellaflow: Contender = {
  name: "cellaflow",
  label: "Cellaflow",
  settings:
    "`cellaflow dev` with its defaults, over TLS with a token; the lease is shortened to 2 s where a takeover is waited for",
  absent: () => (existsSync(program) ? undefined : `there is no engine at '${program}' (CELLAFLOW_BENCH_BIN)`),
  versions: () => ({
    engine: firstLine(program, ["--version"]) ?? "unknown",
    sdk: packageVersion("@cellaflow/sdk"),
  }),
  async start({ folder, memoryMax, takeOver = false }) {
    const dataFolder = join(folder, "data");
    const args = ["dev", "--data-dir", dataFolder, "--listen", "127.0.0.1:0"];
    if (takeOver) args.push("--lease-ttl-ms", String(LEASE_TTL_MS));
    const process = ServerProcess.start({
      command: program,
      args,
      folder,
      memoryMax,
    });
    await process.ready(() => connection(dataFolder)?.pid === process.pid);
    const { url = "", token = "", ca = "" } = connection(dataFolder) ?? {};
    return { process, dataFolder, address: { url, token, ca } };
  },
};

function connection(dataFolder: string): Connection | undefined {
  try {
    return JSON.parse(readFileSync(join(dataFolder, "connection.json"), "utf8")) as Connection;
  } catch {
    return undefined; // not written yet
  }
}
