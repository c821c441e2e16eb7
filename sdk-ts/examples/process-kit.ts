/** An example as a process of its own on an engine, for the tests beside it. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import type { TestEngine } from "@cellaflow/sdk/testing";

/** Why the tests of examples cannot run here; false: they can. */
export const skip = process.env.CELLAFLOW_BIN ? false : "CELLAFLOW_BIN names no engine";

/** Starts an example's compiled `main`, e.g. "reminders/main.js". */
export function startExample(
  { connection }: Pick<TestEngine, "connection">,
  main: string,
  args: readonly string[],
  more: NodeJS.ProcessEnv = {},
): Example {
  return start(connection, process.execPath, [join(import.meta.dirname, main), ...args], more);
}

/** Starts `cellaflow …`. */
export function startCli({ connection }: Pick<TestEngine, "connection">, ...args: readonly string[]): Example {
  return start(connection, process.env.CELLAFLOW_BIN ?? "", args, {});
}

function start(
  { url, token, ca }: TestEngine["connection"],
  program: string,
  args: readonly string[],
  more: NodeJS.ProcessEnv,
): Example {
  const env = { PATH: process.env.PATH, CELLAFLOW_URL: url, CELLAFLOW_TOKEN: token, CELLAFLOW_CA: ca, ...more };
  return new Example(spawn(program, [...args], { env }));
}

/** A process of an example. */
export class Example {
  private text = "";
  private look: () => void = () => {};
  private readonly exited: Promise<number | null>;

  constructor(private readonly child: ChildProcess) {
    const add = (data: Buffer): void => {
      this.text += data.toString();
      this.look();
    };
    child.stdout?.on("data", add);
    child.stderr?.on("data", add);
    this.exited = new Promise((resolve) => child.once("close", resolve));
  }

  /** Waits until it has said this; returns all it has said. */
  async said(part: string): Promise<string> {
    const said = new Promise<void>((resolve) => {
      this.look = () => {
        if (this.text.includes(part)) resolve();
      };
      this.look();
    });
    const code = await Promise.race([said, this.exited]);
    assert.ok(this.text.includes(part), `it ended with ${code} and did not say "${part}":\n${this.text}`);
    return this.text;
  }

  async ended(code = 0): Promise<string> {
    assert.equal(await this.exited, code, this.text);
    return this.text;
  }

  async kill(): Promise<void> {
    this.child.kill("SIGKILL");
    await this.exited;
  }
}
