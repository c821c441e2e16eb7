/**
 * The worker channel against a scripted engine: lost connections, refusals, credit, bounded buffers, a restored ledger
 * (C1 to C4, C6, J1, J2).
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { create, fromBinary } from "@bufbuild/protobuf";
import { CellaflowError } from "../errors.js";
import { RefusalSchema } from "../gen/cellaflow/v1/common_pb.js";
import { StartSessionRequestSchema } from "../gen/cellaflow/v1/engine_pb.js";
import { StepCompletedSchema } from "../gen/cellaflow/v1/event_pb.js";
import {
  AckSchema,
  AssignedSchema,
  ChannelRequestSchema,
  CreditSchema,
  type EngineMessage,
  EngineMessageSchema,
  NackSchema,
  WelcomeSchema,
  type WorkerMessage,
} from "../gen/cellaflow/v1/worker_pb.js";
import type { Appended } from "../runtime/journal.js";
import { valuePayload } from "../runtime/payloads.js";
import type { Run } from "../runtime/run.js";
import { Channel } from "./channel.js";
import type { DuplexHandlers, GrpcClient } from "./grpc.js";
import type { SessionLink } from "./link.js";

const SESSION = "0190a000-0000-7000-8000-000000000001";
type Body = WorkerMessage["body"];

/** An engine that answers as a test tells it. */
class ScriptedEngine {
  readonly got: Body[] = [];
  streams = 0;
  /** True: streams end as soon as they are opened. */
  down = false;
  creditBytes = 1_000_000;
  incarnation = "first";
  onMessage: (body: Body) => void = () => {};
  private handlers: DuplexHandlers<{ messages: EngineMessage[] }> | undefined;

  client(): GrpcClient {
    const duplex = (_method: unknown, handlers: DuplexHandlers<{ messages: EngineMessage[] }>) => {
      this.handlers = handlers;
      this.streams += 1;
      if (this.down) setImmediate(() => this.lose());
      return {
        write: (bytes: Uint8Array) => {
          for (const { body } of fromBinary(ChannelRequestSchema, bytes).messages) this.take(body);
          return true;
        },
        end: () => {},
        cancel: () => this.lose(),
      };
    };
    return { found: { namespace: "" }, unary: async () => ({ known: true }), duplex } as unknown as GrpcClient;
  }

  send(body: EngineMessage["body"]): void {
    this.handlers?.message({ messages: [create(EngineMessageSchema, { body })] }, 100);
  }

  lose(): void {
    const { handlers } = this;
    this.handlers = undefined;
    handlers?.closed(new CellaflowError("unavailable", "gone", "wait", { retryable: true }));
  }

  ack(requestId: bigint, seq: number): void {
    this.send({ case: "ack", value: create(AckSchema, { requestId, seq: BigInt(seq) }) });
  }

  nack(requestId: bigint, code: string, retryable: boolean): void {
    const refusal = create(RefusalSchema, { code, message: `${code}: said the test`, retryable, retryAfterMs: 5n });
    this.send({ case: "nack", value: create(NackSchema, { requestId, refusal, sessionId: SESSION }) });
  }

  assign(requestId: bigint, epoch = 1n): void {
    const session = { sessionId: SESSION, version: "1" };
    this.send({ case: "assigned", value: create(AssignedSchema, { requestId, session, epoch }) });
  }

  private take(body: Body): void {
    this.got.push(body);
    if (body.case === "hello") {
      const { incarnation, creditBytes } = this;
      const value = create(WelcomeSchema, { leaseTtlMs: 60_000n, creditBytes: BigInt(creditBytes), incarnation });
      setImmediate(() => this.send({ case: "welcome", value }));
    }
    this.onMessage(body);
  }
}

async function bound(engine: ScriptedEngine): Promise<{ channel: Channel; link: SessionLink }> {
  const channel = new Channel(engine.client(), () => {});
  engine.onMessage = (body) => {
    if (body.case === "start" || body.case === "attach") setImmediate(() => engine.assign(body.value.requestId));
  };
  const { link } = await channel.start(create(StartSessionRequestSchema, { workflow: "w", version: "1" }));
  assert.ok(link !== undefined);
  return { channel, link };
}

function appendStep(link: SessionLink, key: string, acked: (answer: Appended) => void, bytes = 10): void {
  const value = create(StepCompletedSchema, { stepKey: key, output: valuePayload(new Uint8Array(bytes)) });
  const after = { seq: 0, requests: 0 };
  link.append({ after, op: { case: "stepCompleted", value }, bytes, acked, refused: () => assert.fail("refused") });
}

const appended = (engine: ScriptedEngine) =>
  engine.got.flatMap((body) => {
    if (body.case !== "append" || body.value.op.case !== "stepCompleted") return [];
    return [{ id: body.value.requestId, key: body.value.op.value.stepKey }];
  });

test("C1 J1 what was not acknowledged is sent again in order, at the same epoch", async () => {
  const engine = new ScriptedEngine();
  const { link } = await bound(engine);
  const acks: number[] = [];
  for (const key of ["a", "b", "c"]) appendStep(link, key, ({ seq }) => acks.push(seq));
  await sleep(5);
  engine.ack(appended(engine)[0]?.id ?? 0n, 3);
  engine.lose();
  appendStep(link, "d", ({ seq }) => acks.push(seq));
  while (appended(engine).length < 6) await sleep(5);
  assert.deepEqual(
    appended(engine).map(({ key }) => key),
    ["a", "b", "c", "b", "c", "d"],
  );
  const attach = engine.got.find((body) => body.case === "attach");
  assert.equal(attach?.value.epoch, 1n);
  for (const [index, { id }] of appended(engine).slice(3).entries()) engine.ack(id, 4 + index);
  assert.deepEqual(acks, [3, 4, 5, 6]);
  link.close();
});

test("C2 a session that somebody took over meanwhile is fenced", async () => {
  const engine = new ScriptedEngine();
  const { link } = await bound(engine);
  let fenced = "";
  link.attachRun({
    noteEvents: () => {},
    firstUnknownSeq: 1,
    fence: (why: string) => (fenced = why),
  } as unknown as Run);
  engine.onMessage = (body) => {
    if (body.case === "attach") setImmediate(() => engine.nack(body.value.requestId, "fenced", false));
  };
  engine.lose();
  while (fenced === "") await sleep(5);
  assert.match(fenced, /fenced/);
  link.close();
});

test("J2 what may succeed later is sent again after the engine's hint", async () => {
  const engine = new ScriptedEngine();
  const { link } = await bound(engine);
  let seq = 0;
  appendStep(link, "a", (answer) => {
    seq = answer.seq;
  });
  await sleep(5);
  engine.nack(appended(engine)[0]?.id ?? 0n, "unavailable", true);
  while (appended(engine).length < 2) await sleep(2);
  engine.ack(appended(engine)[1]?.id ?? 0n, 3);
  assert.equal(seq, 3);
  link.close();
});

test("C4 nothing is sent beyond the engine's credit, and a full buffer says so", async () => {
  const engine = new ScriptedEngine();
  engine.creditBytes = 40_000;
  const { channel, link } = await bound(engine);
  for (let index = 0; index < 20; index++) appendStep(link, `s${index}`, () => {}, 10_000);
  await sleep(10);
  const sent = appended(engine).length;
  assert.ok(sent >= 1 && sent <= 5, `${sent} sent`);
  engine.send({ case: "credit", value: create(CreditSchema, { bytes: 1_000_000n }) });
  await sleep(10);
  assert.ok(appended(engine).length > sent && appended(engine).length < 20, "credit never grows beyond the window");
  assert.equal(channel.isFull, false);
  appendStep(link, "large", () => {}, 40_000_000);
  assert.equal(channel.isFull, true);
  let room = false;
  channel.whenRoom(() => {
    room = true;
  });
  link.close();
  assert.equal(room, true);
});

test("C3 attempts to connect go on while a session is bound", async () => {
  const engine = new ScriptedEngine();
  const { link } = await bound(engine);
  engine.down = true;
  engine.lose();
  await sleep(400);
  assert.ok(engine.streams >= 4, `${engine.streams} streams`);
  link.close();
});

test("J2 a release that is refused says so, one that is carried out as well", async () => {
  const engine = new ScriptedEngine();
  const { link } = await bound(engine);
  engine.onMessage = (body) => {
    if (body.case !== "release") return;
    const { requestId, seenSeq } = body.value;
    setImmediate(() => (seenSeq === 5n ? engine.ack(requestId, 6) : engine.nack(requestId, "not_idle", true)));
  };
  assert.equal(await link.release("waiting", 4), false);
  assert.equal(await link.release("waiting", 5), true);
  link.close();
});

test("C2 a lease that is granted anew on rebinding has no run here, and is given back", async () => {
  const engine = new ScriptedEngine();
  const { channel, link } = await bound(engine);
  let fenced = "";
  link.attachRun({
    noteEvents: () => {},
    firstUnknownSeq: 7,
    fence: (why: string) => {
      fenced = why;
      link.close();
    },
  } as unknown as Run);
  // The release was carried out, its answer lost, and the session woke meanwhile.
  void link.release("waiting", 6);
  const released = new Promise<bigint>((resolve) => {
    engine.onMessage = (body) => {
      if (body.case === "attach") setImmediate(() => engine.assign(body.value.requestId, 2n));
      if (body.case === "release" && body.value.epoch === 2n) {
        resolve(body.value.epoch);
        setImmediate(() => engine.ack(body.value.requestId, 9));
      }
    };
  });
  engine.lose();
  assert.equal(await released, 2n);
  assert.match(fenced, /anew/);
  await sleep(5);
  channel.close(true);
});

/**
 * A worker that outlived the engine it worked for was refused every append of every session on the restored one, sessions
 * that it was given afterwards included, because its stream had said that it held leases from before.
 */
test("C6 after a restore the leases from before are given up, and the next stream knows the new incarnation", async () => {
  const engine = new ScriptedEngine();
  const { channel, link } = await bound(engine);
  let fenced = "";
  link.attachRun({
    noteEvents: () => {},
    firstUnknownSeq: 1,
    fence: (why: string) => {
      fenced = why;
    },
  } as unknown as Run);
  channel.serve({ workflows: [], free: () => 1, assigned: () => {}, refused: assert.fail });
  const hellos = () => engine.got.flatMap((body) => (body.case === "hello" ? [body.value.incarnation] : []));
  engine.incarnation = "second";
  engine.lose();
  while (hellos().at(-1) !== "second" || !channel.isOpen) await sleep(5);
  assert.match(fenced, /restored from a backup/);
  const boundAgain = engine.got.slice(engine.got.findLastIndex((body) => body.case === "hello"));
  assert.ok(!boundAgain.some((body) => body.case === "attach"), "a lease from before is never asked for again");
  appendStep(link, "late", () => assert.fail("appended"));
  await sleep(5);
  assert.deepEqual(appended(engine), []);
  channel.serve(undefined);
  channel.close(true);
});
