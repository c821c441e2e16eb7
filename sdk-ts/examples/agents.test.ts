/** The examples as processes on a real engine: what the README shows works, and survives kill -9. */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { create } from "@bufbuild/protobuf";
import {
  type LocalSmtp,
  type ScriptedLlm,
  type ScriptedReply,
  type ScriptedRequest,
  startCountingServer,
  startEngine,
  startScriptedLlm,
  startSmtp,
  type TestEngine,
} from "@cellaflow/sdk/testing";
import { SessionService, SubscribeSessionRequestSchema } from "#sdk/gen/cellaflow/v1/session_pb.js";
import { connectionOf } from "#sdk/internal/connection.js";
import script from "./code-audit/script.js";

const skip = process.env.CELLAFLOW_BIN ? false : "CELLAFLOW_BIN names no engine";
const PAGE = "Cellaflow journals what agents do.";
let engine: TestEngine;
let model: ScriptedLlm;
let mail: LocalSmtp;
let folder = "";
let repository = "";

function environment(): NodeJS.ProcessEnv {
  const { url, token, ca } = engine.connection;
  return { PATH: process.env.PATH, HOME: folder, CELLAFLOW_URL: url, CELLAFLOW_TOKEN: token, CELLAFLOW_CA: ca };
}

/** Starts an example; its standard output is JSON lines or text. */
class Agent {
  readonly lines: string[] = [];
  readonly exited: Promise<number | null>;
  errors = "";
  private readonly child: ChildProcess;
  private waiting: (() => void)[] = [];

  constructor(main: string, args: readonly string[], work = folder, more: NodeJS.ProcessEnv = {}) {
    mkdirSync(work, { recursive: true });
    this.child = spawn(process.execPath, [join(import.meta.dirname, main), ...args], {
      cwd: work,
      env: {
        ...environment(),
        OPENAI_BASE_URL: model.baseUrl,
        SMTP_URL: mail.smtpUrl,
        SMTP_QUERY_URL: mail.url,
        AUDIT_MODEL: "scripted-1",
        AUDIT_REPOSITORY: repository,
        ...more,
      },
    });
    let rest = "";
    this.child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      const parts = (rest + text).split("\n");
      rest = parts.pop() ?? "";
      this.lines.push(...parts);
      for (const look of this.waiting) look();
    });
    this.child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.errors += text;
    });
    this.exited = new Promise((resolve) => this.child.once("close", resolve));
  }

  /** Waits for a line with this text. */
  seen(text: string): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (this.lines.some((line) => line.includes(text))) resolve();
      };
      this.waiting.push(look);
      look();
    });
  }

  async kill(): Promise<void> {
    this.child.kill("SIGKILL");
    await this.exited;
  }

  async done(): Promise<void> {
    assert.equal(await this.exited, 0, this.errors + this.lines.join("\n"));
  }
}

describe("the examples on an engine", { skip }, () => {
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "examples-test-"));
    repository = join(folder, "origin");
    const git = (...args: string[]) => execFileSync("git", ["-C", repository, ...args]);
    execFileSync("git", ["init", "--quiet", repository]);
    writeFileSync(
      join(repository, "a.ts"),
      "// Adds one to what it is given.\nexport const a = (n: number) => n + 1;\n",
    );
    writeFileSync(
      join(repository, "b.ts"),
      "// Takes one from what it is given.\nexport const b = (n: number) => n - 1;\n",
    );
    git("add", ".");
    git("-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "--quiet", "-m", "first");
    [engine, model, mail] = await Promise.all([
      startEngine({ flags: ["--lease-ttl-ms", "1000", "--guard-attempt-ms", "2000", "--guard-grace-ms", "500"] }),
      startScriptedLlm({
        script: (request) => (request.stream || request.body.tools ? script(request) : other(request)),
      }),
      startSmtp(),
    ]);
  });
  after(async () => {
    await Promise.all([engine?.close(), model?.close(), mail?.close()]);
    rmSync(folder, { recursive: true, force: true });
  });

  it("the first agent fetches and asks once, however often it is started", async () => {
    let fetched = 0;
    const site = createServer((_request, response) => {
      fetched += 1;
      response.end(PAGE);
    });
    await new Promise<void>((resolve) => site.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(site.address() as AddressInfo).port}/`;
    const before = model.received;
    for (let start = 0; start < 2; start++) {
      const agent = new Agent("quickstart/agent.js", [url, "scripted-1"]);
      await agent.done();
      assert.deepEqual(agent.lines, [`In one sentence: ${PAGE}`]);
    }
    assert.equal(fetched, 1);
    assert.equal(model.received - before, 1);
    site.close();
  });

  it("two orders pay one invoice with one charge, however often they are started", async () => {
    const bank = await startCountingServer();
    for (let start = 0; start < 2; start++) {
      const agent = new Agent("payments/main.js", ["A-17"], folder, { CHARGE_URL: bank.url });
      await agent.done();
      assert.equal(agent.lines.filter((line) => line.includes("receipt of invoice A-17")).length, 2);
    }
    assert.equal(bank.count("invoice A-17"), 1);
    await bank.close();
  });

  it("the audit agent goes on in another folder after kill -9, pays nothing twice and mails once", async () => {
    const before = model.received;
    const first = new Agent("code-audit/main.js", ["--json"], join(folder, "work-1"));
    await first.seen('"step":"audit#1"');
    await first.kill();
    rmSync(join(folder, "work-1"), { recursive: true });
    const second = new Agent("code-audit/main.js", ["--json"], join(folder, "work-2"));
    await second.done();
    const last = JSON.parse(second.lines.at(-1) ?? "{}") as {
      result: { sessionId: string; output: { patch: string } };
    };
    const { sessionId, output } = last.result;
    assert.ok(second.lines.some((line) => line.includes('"step":"audit#1"') && line.includes('"replayed":true')));
    // Three requests: plan, audit, fix. A kill before the next one was committed may repeat that one only.
    const calls = model.records.slice(before).map((one) => one.call);
    assert.deepEqual(calls.filter((call) => call !== "fix#1").toSorted(), ["audit#1/llm#1", "plan#1"]);
    assert.equal(mail.count(`<report-${sessionId}@cellaflow.local>`), 1);
    execFileSync("git", ["-C", repository, "apply", "--check", "-"], { input: output.patch });
    await noLocalPaths(sessionId);
  });

  it("the audit agent waits for a person when nobody can say whether its mail went out", async () => {
    const start = (work: string) =>
      new Agent("code-audit/main.js", ["--json", "--key", "asks"], join(folder, work), { SMTP_QUERY_URL: "" });
    const mails = mail.deliveries.length;
    mail.inject({ delayReplyMs: 10_000 });
    const first = start("asks-1");
    while (mail.deliveries.length === mails) await new Promise((resolve) => setTimeout(resolve, 5));
    await first.kill();

    const second = start("asks-2");
    assert.equal(await second.exited, 1, second.errors);
    const { result } = JSON.parse(second.lines.at(-1) ?? "{}") as { result: { status: string; sessionId: string } };
    assert.equal(result.status, "paused");
    const messageId = `<report-${result.sessionId}@cellaflow.local>`;
    const resolve = ["steps", "resolve", result.sessionId, "report#1", "--output", JSON.stringify({ messageId })];
    execFileSync(process.env.CELLAFLOW_BIN ?? "", resolve, { env: environment() });

    await start("asks-3").done();
    assert.equal(mail.count(messageId), 1);
  });
});

/** Answers what the audit's script does not: the fix, and the first agent's question. */
function other(request: ScriptedRequest): ScriptedReply {
  if (request.body.response_format !== undefined) return script(request);
  return { content: `In one sentence: ${String(request.messages.at(-1)?.content).split("\n").at(-1)}` };
}

/** Nothing in the ledger but the session's own input names a folder of this machine. */
async function noLocalPaths(sessionId: string): Promise<void> {
  const request = create(SubscribeSessionRequestSchema, {
    session: { by: { case: "sessionId", value: sessionId } },
    fromSeq: 1n,
    untilCaughtUp: true,
  });
  const { client } = connectionOf(engine.connection);
  for await (const { body } of client.serverStream(SessionService.method.subscribeSession, request)) {
    if (body.case !== "event" || body.value.body.case !== "stepCompleted") continue;
    const { output, name } = body.value.body.value;
    const bytes = output?.body.case === "data" ? Buffer.from(output.body.value) : Buffer.alloc(0);
    assert.ok(!bytes.includes(folder), `the output of ${name}`);
  }
}
