import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";

interface Started {
  child: ChildProcess;
  ready: Record<string, string>;
}

async function start(name: string, args: readonly string[] = []): Promise<Started> {
  const main = fileURLToPath(new URL(`./${name}-main.js`, import.meta.url));
  const child = spawn(process.execPath, [main, ...args], { stdio: ["pipe", "pipe", "inherit"] });
  const [line] = (await once(createInterface({ input: child.stdout }), "line")) as [string];
  return { child, ready: JSON.parse(line) as Record<string, string> };
}

async function endsWhenStdinCloses(child: ChildProcess): Promise<void> {
  const exit = once(child, "exit");
  child.stdin?.end();
  assert.deepEqual(await exit, [0, null]);
}

describe("each server runs as a process of its own and ends with its parent", () => {
  it("scripted-llm, with a script and a record", async () => {
    const folder = mkdtempSync(join(tmpdir(), "cellaflow-"));
    const script = join(folder, "script.mjs");
    const record = join(folder, "record.jsonl");
    writeFileSync(script, 'export default (request) => ({ content: "to " + request.messages[0].content });');
    const { child, ready } = await start("scripted-llm", [
      "--port",
      "0",
      "--script",
      script,
      "--record",
      record,
      "--delay-ms",
      "1",
    ]);
    try {
      const response = await fetch(`${ready.baseUrl}/chat/completions`, {
        method: "POST",
        headers: { "x-cellaflow-session": "s", "x-cellaflow-call": "c" },
        body: JSON.stringify({ model: "m", messages: [{ role: "user", content: "you" }] }),
      });
      assert.match(await response.text(), /"to you"/);
    } finally {
      await endsWhenStdinCloses(child);
    }
    assert.equal((JSON.parse(readFileSync(record, "utf8")) as { call: string }).call, "c");
    rmSync(folder, { recursive: true });
  });

  it("smtp", async () => {
    const { child, ready } = await start("smtp");
    assert.match(ready.smtpUrl ?? "", /^smtp:\/\/127\.0\.0\.1:\d+$/);
    assert.equal((await fetch(`${ready.url}/count`)).status, 200);
    await endsWhenStdinCloses(child);
  });

  it("counting-server", async () => {
    const { child, ready } = await start("counting-server");
    assert.equal((await fetch(`${ready.url}/counts`)).status, 200);
    await endsWhenStdinCloses(child);
  });

  it("ends after its lifetime", async () => {
    const { child } = await start("counting-server", ["--max-lifetime-ms", "50"]);
    assert.deepEqual(await once(child, "exit"), [0, null]);
  });

  it("says what is wrong with an option", async () => {
    const main = fileURLToPath(new URL("./smtp-main.js", import.meta.url));
    const child = spawn(process.execPath, [main, "--port", "x"], { stdio: ["pipe", "pipe", "pipe"] });
    const [message] = (await once(child.stderr, "data")) as [Buffer];
    assert.match(String(message), /--port needs a whole number/);
    assert.deepEqual(await once(child, "exit"), [64, null]);
  });
});
