/** Restate's server: one node with its defaults. */
import { existsSync, mkdirSync } from "node:fs";
import { arch, platform } from "node:os";
import { join } from "node:path";
import type { Contender } from "./contender.js";
import { packageFolder, packageVersion } from "./packages.js";
import { freePorts, ServerProcess } from "./process.js";

/** Share of a memory cap that the documentation gives to RocksDB. */
const ROCKSDB_SHARE = 0.5;

/** The binary itself: its npm wrapper would be a second process. */
const program = join(
  packageFolder(`@restatedev/restate-server-${platform()}-${arch()}`) ?? "",
  "bin",
  "restate-server",
);

export const restate: Contender = {
  name: "restate",
  label: "Restate",
  settings:
    "one node with its defaults (replicated loglet, WAL synced), telemetry off; under a memory cap RocksDB gets half of it",
  absent: () => (existsSync(program) ? undefined : "npm package @restatedev/restate-server is not installed"),
  versions: () => ({
    server: packageVersion("@restatedev/restate-server"),
    sdk: packageVersion("@restatedev/restate-sdk"),
  }),
  async start({ folder, memoryMax }) {
    const dataFolder = join(folder, "data");
    mkdirSync(dataFolder);
    const [node, ingressPort, adminPort, port] = await freePorts(4);
    const process = ServerProcess.start({
      command: program,
      args: ["--node-name", "bench", "--base-dir", dataFolder, "--no-logo", "--listen-mode", "tcp"],
      folder,
      memoryMax,
      env: {
        RESTATE_BIND_ADDRESS: `127.0.0.1:${node}`,
        RESTATE_ADVERTISED_ADDRESS: `http://127.0.0.1:${node}/`,
        RESTATE_INGRESS__BIND_ADDRESS: `127.0.0.1:${ingressPort}`,
        RESTATE_ADMIN__BIND_ADDRESS: `127.0.0.1:${adminPort}`,
        RESTATE_DISABLE_TELEMETRY: "true",
        RESTATE_LOG_FILTER: "warn",
        ...(memoryMax === undefined
          ? {}
          : {
              RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE: `${Math.floor(memoryMax * ROCKSDB_SHARE)}B`,
            }),
      },
    });
    const admin = `http://127.0.0.1:${adminPort}`;
    const ingress = `http://127.0.0.1:${ingressPort}`;
    await process.ready(async () => (await answers(`${admin}/health`)) && (await answers(`${ingress}/restate/health`)));
    return {
      process,
      dataFolder,
      address: { ingress, admin, port: String(port) },
    };
  },
};

async function answers(url: string): Promise<boolean> {
  return fetch(url).then(
    (answer) => answer.ok,
    () => false,
  );
}
