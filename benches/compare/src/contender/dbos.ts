/** DBOS: a library; its server is the PostgreSQL that keeps its state. */
import { spawnSync } from "node:child_process";
import { chownSync, existsSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { Contender } from "./contender.js";
import { packageFolder, packageVersion } from "./packages.js";
import { firstLine, freePorts, ServerProcess } from "./process.js";

/** Where Debian puts each version's programs. */
const DEBIAN = "/usr/lib/postgresql";

const programs = findPrograms();

export const dbos: Contender = {
  name: "dbos",
  label: "DBOS",
  settings: "its defaults on a PostgreSQL with its defaults (fsync and synchronous_commit on), TCP without TLS",
  absent() {
    if (packageFolder("@dbos-inc/dbos-sdk") === undefined) return "npm package @dbos-inc/dbos-sdk is not installed";
    if (programs === undefined) return "PostgreSQL is not installed (Debian, Ubuntu: apt-get install postgresql)";
    if (process.getuid?.() === 0 && postgresUser() === undefined)
      return "PostgreSQL does not run as root and there is no user postgres";
    return undefined;
  },
  versions: () => ({
    server: firstLine(join(programs ?? "", "postgres"), ["--version"]) ?? "unknown",
    sdk: packageVersion("@dbos-inc/dbos-sdk"),
  }),
  async start({ folder, memoryMax }) {
    const dataFolder = join(folder, "data");
    const user = postgresUser();
    mkdirSync(dataFolder, { mode: 0o700 });
    if (user !== undefined) for (const path of [folder, dataFolder]) chownSync(path, user.uid, user.gid);
    const bin = programs ?? "";
    const made = spawnSync(join(bin, "initdb"), ["-D", dataFolder, "-U", "bench", "-A", "trust", "--no-instructions"], {
      cwd: folder,
      ...user,
    });
    if (made.status !== 0) throw new Error(`initdb: ${made.stderr.toString()}`);
    const [port] = await freePorts(1);
    const process = ServerProcess.start({
      command: join(bin, "postgres"),
      args: ["-D", dataFolder, "-p", String(port), "-h", "127.0.0.1", "-k", folder],
      folder,
      memoryMax,
      user,
      stopSignal: "SIGINT", // "fast": do not wait for clients
    });
    await process.ready(() => spawnSync(join(bin, "pg_isready"), ["-h", "127.0.0.1", "-p", String(port)]).status === 0);
    return {
      process,
      dataFolder,
      address: {
        database: `postgresql://bench@127.0.0.1:${port}/bench_dbos_sys`,
      },
    };
  },
};

function findPrograms(): string | undefined {
  const versions = existsSync(DEBIAN) ? readdirSync(DEBIAN).sort((a, b) => Number(b) - Number(a)) : [];
  const folders = [...versions.map((version) => join(DEBIAN, version, "bin")), ...(process.env.PATH ?? "").split(":")];
  return folders.find((folder) => existsSync(join(folder, "initdb")) && existsSync(join(folder, "postgres")));
}

/** PostgreSQL refuses root; undefined: we are somebody else and it runs as us. */
function postgresUser(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const id = (flag: string): number => Number(firstLine("id", [flag, "postgres"]) ?? Number.NaN);
  const user = { uid: id("-u"), gid: id("-g") };
  return Number.isNaN(user.uid) ? undefined : user;
}
