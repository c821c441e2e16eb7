/** An engine as in production: `cellaflow serve` with a configuration file, certificates and the hash of a token. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { openSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";

/** What it serves with. */
export interface Files {
  cert: string;
  key: string;
  /** Authority whose certificates clients must have. */
  clientCa: string;
}

/** A running engine. */
export class Served {
  private constructor(
    readonly url: string,
    readonly token: string,
    private readonly logFile: string,
    private readonly process: ChildProcess,
  ) {}

  static async start(folder: string, { cert, key, clientCa }: Files): Promise<Served> {
    const program = process.env.CELLAFLOW_BIN ?? "cellaflow";
    const made = execFileSync(program, ["tokens", "hash", "--json"], { encoding: "utf8" });
    const { token, hash } = JSON.parse(made) as { token: string; hash: string };
    const listen = `127.0.0.1:${await freePort()}`;
    const config = join(folder, "engine.toml");
    const lines = [
      `listen = "${listen}"`,
      `data_dir = ${JSON.stringify(join(folder, "data"))}`,
      `tls_cert = ${JSON.stringify(cert)}`,
      `tls_key = ${JSON.stringify(key)}`,
      `tls_client_ca = ${JSON.stringify(clientCa)}`,
      `metrics_listen = "off"`,
      `[[tokens]]`,
      `name = "agents"`,
      `hash = "${hash}"`,
      `role = "admin"`,
      `namespace = "default"`,
    ];
    writeFileSync(config, lines.join("\n"));
    const logFile = join(folder, "engine.log");
    const child = spawn(program, ["serve", "--config", config], {
      stdio: ["ignore", "ignore", openSync(logFile, "a")],
    });
    return new Served(`https://${listen}`, token, logFile, child);
  }

  get running(): boolean {
    return this.process.exitCode === null && this.process.signalCode === null;
  }

  /** What it logged so far. */
  log(): string {
    return readFileSync(this.logFile, "utf8");
  }

  async stop(): Promise<void> {
    const exited = new Promise((resolve) => this.process.once("exit", resolve));
    this.process.kill("SIGTERM");
    await exited;
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
