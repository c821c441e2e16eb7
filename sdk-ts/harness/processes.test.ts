import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { type Launch, Processes } from "./processes.js";

describe("the demo's processes", () => {
  const folder = mkdtempSync(join(tmpdir(), "cellaflow-processes-"));
  after(() => rmSync(folder, { recursive: true }));
  const script = (code: string): Launch => ({
    command: process.execPath,
    args: ["-e", code],
    env: {},
    cwd: folder,
    logFile: join(folder, "log"),
  });

  it("P1: are all killed at the end, and none is started after it", async () => {
    const processes = new Processes();
    const children = [1, 2].map(() => processes.launch(script("setInterval(() => {}, 1000)")));
    await processes.end();
    for (const child of children) {
      assert.deepEqual(await child.exited, { code: null, signal: "SIGKILL" });
      assert.equal(child.running, false);
      assert.equal(child.kill(), false, "P2: its pid may belong to somebody else now");
    }
    assert.throws(() => processes.launch(script("")), /nothing is started/);
  });

  it("show what they logged last", async () => {
    const processes = new Processes();
    const child = processes.launch(script("console.error('first'); console.log('second'); process.exit(3)"));
    assert.equal((await child.exited).code, 3);
    assert.match(child.tail(), /first/);
    await assert.rejects(processes.serve(script("console.error('cannot'); process.exit(64)")), /code 64/);
    await processes.end();
  });

  it("say that a program is missing", async () => {
    const processes = new Processes();
    const child = processes.launch({ ...script(""), command: join(folder, "nothing") });
    assert.deepEqual(await child.exited, { code: null, signal: null });
    assert.equal(child.kill(), false);
  });
});
