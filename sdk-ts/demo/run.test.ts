import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import { SessionStatus } from "#sdk/gen/cellaflow/v1/common_pb.js";
import type { Event } from "#sdk/gen/cellaflow/v1/event_pb.js";
import { SubscribeSessionResponseSchema } from "#sdk/gen/cellaflow/v1/session_pb.js";
import type { Target } from "#sdk/harness/account.js";
import { audit, event } from "#sdk/harness/events.fixture.js";
import type { PlannedRun } from "#sdk/harness/plan.js";
import { type Child, Processes } from "#sdk/harness/processes.js";
import { perform, type RunOutcome } from "./run.js";

/** An engine that shows a ledger as the test fills it, and agents that are real processes which do nothing. */
class Stage {
  readonly ledger: Event[] = [];
  readonly agents: { child: Child; workFolder: string }[] = [];
  readonly processes = new Processes();
  readonly folder = mkdtempSync(join(tmpdir(), "cellaflow-run-"));
  readonly doneFile = join(this.folder, "done");
  engineKills = 0;
  ended = false;

  perform(target: Target, seq: number): Promise<RunOutcome> {
    const place = { kind: "boundary" as const, seq, waitMs: 0, label: String(seq) };
    const run: PlannedRun = { name: "run", target, place: target === "none" ? undefined : place };
    return perform(run, {
      engine: {
        kill: () => {
          this.engineKills += 1;
          return true;
        },
        restart: async () => undefined,
      },
      wire: {
        subscribe: (request: { fromSeq?: bigint }, signal: AbortSignal) =>
          this.subscribe(Number(request.fromSeq), signal),
      } as never,
      workflow: "w",
      folder: this.folder,
      startAgent: (workFolder) => {
        const waits = `setInterval(() => fs.existsSync(${JSON.stringify(this.doneFile)}) && process.exit(0), 10)`;
        const args = ["-e", waits];
        const logFile = join(this.folder, "agent.log");
        const child = this.processes.launch({
          command: process.execPath,
          args,
          env: {},
          cwd: workFolder,
          logFile,
        });
        this.agents.push({ child, workFolder });
        return child;
      },
      onSession: () => undefined,
      onEvent: () => undefined,
    });
  }

  async *subscribe(fromSeq: number, signal: AbortSignal) {
    for (let next = fromSeq; !signal.aborted; ) {
      const found = this.ledger[next - 1];
      if (found !== undefined) {
        next += 1;
        yield create(SubscribeSessionResponseSchema, { body: { case: "event", value: found } });
      } else if (this.ended) {
        const status = SessionStatus.COMPLETED;
        yield create(SubscribeSessionResponseSchema, { body: { case: "end", value: { seq: 0n, status } } });
        return;
      } else {
        await delay(5);
      }
    }
  }

  async until(condition: () => boolean): Promise<void> {
    for (let tries = 0; !condition(); tries += 1) {
      assert.ok(tries < 400, "waited too long");
      await delay(5);
    }
  }

  /** The run's work is done: the session ends and every agent that is left ends in good order. */
  finish(): void {
    this.ended = true;
    writeFileSync(this.doneFile, "");
  }
}

describe("a run", () => {
  let stage: Stage;
  beforeEach(() => {
    stage = new Stage();
  });
  afterEach(async () => {
    await stage.processes.end();
    rmSync(stage.folder, { recursive: true });
  });

  it("kills the agent at its boundary, deletes its folder and starts it in another one", async () => {
    const running = stage.perform("agent", 3);
    stage.ledger.push(...audit().slice(0, 3));
    await stage.until(() => stage.agents.length === 2);
    const [first, second] = stage.agents;
    assert.ok(first && second);
    assert.equal((await first.child.exited).signal, "SIGKILL");
    assert.equal(existsSync(first.workFolder), false);
    assert.notEqual(first.workFolder, second.workFolder);
    stage.ledger.push(event(4, Date.now() + 5, { case: "leaseGranted", value: { epoch: 2n } }));
    stage.ledger.push(event(5, Date.now() + 700, { case: "stepCompleted", value: { stepKey: "llm#1" } }));
    stage.finish();
    const outcome = await running;
    assert.deepEqual([outcome.completed, outcome.killed, outcome.problem], [true, true, ""]);
    assert.equal(stage.engineKills, 0);
    assert.equal(outcome.sessionId, "root");
    assert.ok(outcome.resumeMs !== undefined && outcome.resumeMs > 600 && outcome.resumeMs < 2_000);
  });

  it("leaves the agent alone when only the engine is killed", async () => {
    const running = stage.perform("engine", 3);
    stage.ledger.push(...audit().slice(0, 5));
    await stage.until(() => stage.engineKills === 1);
    stage.finish();
    const outcome = await running;
    assert.equal(outcome.completed, true);
    assert.equal(stage.agents.length, 1);
    assert.equal(outcome.resumeMs, undefined, "what was committed before the kill is no resumption");
  });

  it("kills both, and finds the result again when the session had already ended", async () => {
    const running = stage.perform("both", 9);
    stage.ledger.push(...audit());
    stage.ended = true;
    await stage.until(() => stage.agents.length === 2);
    stage.finish();
    const outcome = await running;
    assert.deepEqual([outcome.completed, stage.engineKills], [true, 1]);
  });

  it("says what an agent that gave up had to say", async () => {
    const running = stage.perform("none", 0);
    await stage.until(() => stage.agents.length === 1);
    stage.agents[0]?.child.kill();
    const outcome = await running;
    assert.equal(outcome.completed, false);
    assert.match(outcome.problem, /the agent ended with code null \(SIGKILL\)/);
  });
});
