/**
 * A lane: one engine, and the workers of the example whose runs it performs now. A kill of an engine hits everything on
 * it, so every run has a lane to itself; a worker or an engine that a run leaves alive serves the next one.
 */
import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Client, createClient } from "@cellaflow/sdk";
import { OperatorService } from "#sdk/gen/cellaflow/v1/operator_pb.js";
import { Engine, type EngineTimes } from "#sdk/harness/engine.js";
import type { Child, Processes } from "#sdk/harness/processes.js";
import { Wire } from "#sdk/harness/wire.js";
import { Crew, type Place } from "./crew.js";
import type { MatrixWorld } from "./example.js";
import type { FoundExample } from "./examples.js";
import { STRIKE_FOLDER } from "./strike.js";

/** Shorter than the defaults, so that a kill is noticed soon. */
export const TIMES_MS: EngineTimes = { lease_ttl: 1_000, guard_attempt: 1_000, guard_grace: 300 };

/** What processes are started with. */
export interface Ground {
  processes: Processes;
  /** The engine's program. */
  program: string;
  folder: string;
  environment: NodeJS.ProcessEnv;
}

const WORKER = fileURLToPath(new URL("./worker-main.js", import.meta.url));

/** An engine with its workers. */
export class Lane {
  readonly wire: Wire;
  readonly client: Client;
  private crew: { of: FoundExample; crew: Crew } | undefined;
  private readonly retired: Crew[] = [];
  private crews = 0;
  private compactor: Child | undefined;

  private constructor(
    private readonly ground: Ground,
    private readonly folder: string,
    readonly engine: Engine,
  ) {
    const { connection } = engine;
    this.wire = new Wire(connection);
    this.client = createClient({ connection, log: () => undefined });
  }

  static async start(ground: Ground, name: string): Promise<Lane> {
    const folder = join(ground.folder, name);
    mkdirSync(folder, { recursive: true });
    const { processes, program, environment } = ground;
    const engine = await Engine.start(processes, program, join(folder, "engine"), environment, TIMES_MS);
    return new Lane(ground, folder, engine);
  }

  /** The workers for the next run of an example; those of another example are sent away. */
  async crewFor(found: FoundExample, world: MatrixWorld, key: string): Promise<Crew> {
    const { example, module } = found;
    const shared = "workflows" in example;
    if (this.crew !== undefined && (this.crew.of !== found || !shared)) await this.dismiss();
    if (example.compactor === true) this.compactor ??= this.startCompactor();
    if (this.crew === undefined) {
      const args = shared
        ? [WORKER, module, example.name]
        : [fileURLToPath(example.program), ...example.args(world, key)];
      const env = { ...this.environment(world), ...example.env?.(world) };
      this.crews += 1;
      const crew = new Crew(join(this.folder, `crew-${this.crews}`), (where) => this.launch(args, env, where));
      this.crew = { of: found, crew };
    }
    return this.crew.crew;
  }

  /** Everything that was acknowledged to its workers. */
  acknowledged(): unknown[] {
    const crews = this.crew === undefined ? this.retired : [...this.retired, this.crew.crew];
    return crews.flatMap((crew) => crew.acknowledged());
  }

  /** Lets the engine walk its hash chains and payload digests; returns what is wrong, in words. */
  async verify(): Promise<string[]> {
    const faults: string[] = [];
    const method = OperatorService.method.verifyLedger;
    for await (const { body } of this.wire.stream(method, { payloads: true }, new AbortController().signal)) {
      if (body.case === "fault") faults.push(`${body.value.sessionId} seq ${body.value.seq}: ${body.value.message}`);
    }
    return faults;
  }

  async stop(): Promise<void> {
    await this.dismiss();
    await this.compactor?.stop();
    this.wire.close();
    await this.engine.stop();
  }

  private async dismiss(): Promise<void> {
    if (this.crew === undefined) return;
    await this.crew.crew.close();
    this.retired.push(this.crew.crew);
    this.crew = undefined;
  }

  /** It stays for the lane's further runs: contexts that nobody asks for change nothing. */
  private startCompactor(): Child {
    const { processes, program, environment } = this.ground;
    const { url, token, ca } = this.engine.connection;
    return processes.launch({
      command: process.env.CELLAFLOW_COMPACTOR_BIN || join(dirname(program), "cellaflow-compactor"),
      args: ["contexts"],
      env: { ...environment, CELLAFLOW_URL: url, CELLAFLOW_TOKEN: token, CELLAFLOW_CA: ca },
      cwd: this.folder,
      logFile: join(this.folder, "compactor.log"),
    });
  }

  private launch(args: readonly string[], env: NodeJS.ProcessEnv, where: Place) {
    return this.ground.processes.launch({
      command: process.execPath,
      args,
      env: { ...env, CELLAFLOW_ACK_LOG: where.acks, [STRIKE_FOLDER]: where.strikes },
      cwd: where.workFolder,
      logFile: where.logFile,
    });
  }

  private environment(world: MatrixWorld): NodeJS.ProcessEnv {
    const { url, token, ca } = this.engine.connection;
    return {
      ...this.ground.environment,
      // Starting workers is most of what the matrix costs.
      NODE_COMPILE_CACHE: join(this.ground.folder, "compiled"),
      CELLAFLOW_URL: url,
      CELLAFLOW_TOKEN: token,
      CELLAFLOW_CA: ca,
      OPENAI_BASE_URL: world.modelUrl,
      OPENAI_API_KEY: "scripted",
      CHARGE_URL: world.chargeUrl,
      SMTP_URL: world.smtpUrl,
    };
  }
}
