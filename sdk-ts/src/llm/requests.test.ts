/** The growth of conversations: each turn stores its own part (B1 to B3). */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, it } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { ConversationDeltaSchema, type Message as StoredMessage } from "../gen/cellaflow/content/v1/content_pb.js";
import { runningHash } from "../runtime/conversation.js";
import { type Message, toStored } from "../runtime/messages.js";
import { startScriptedLlm } from "../testing/scripted-llm.js";
import { FakeRun, type RecordedCall } from "./fake-host.test.js";
import { sessionLlm, zoneLlm } from "./llm.js";
import { tool } from "./tools.js";

const text = (bytes: number): string => String.fromCharCode(...randomBytes(bytes).map((byte) => 32 + (byte % 95)));
const user = (content: string): Message => ({ role: "user", parts: [{ type: "text", text: content }] });
const TOOLS = {
  read: tool({
    description: "Reads a file of the repository and returns its lines.",
    parameters: { type: "object", properties: { path: { type: "string" } } },
    execute: () => "",
  }),
};

/** Rebuilds a request's whole list from what was stored, as a reader of the ledger would. */
function resolved(run: FakeRun, call: RecordedCall): StoredMessage[] {
  const base = baseOf(run, call).slice(0, call.request.keep);
  const list = [...base, ...call.request.appended.map((message) => inFull(run, message))];
  assert.equal(list.length, call.request.messages);
  const hash = list.reduce(runningHash, new Uint8Array(32));
  assert.deepEqual(Buffer.from(hash), Buffer.from(call.request.runningHash), "B2");
  return list;
}

function baseOf(run: FakeRun, call: RecordedCall): StoredMessage[] {
  const base = call.request.base;
  if (base.case === "conversation") return conversationAt(run, call.seq);
  if (base.case !== "request") return [];
  const { seq, call: index } = base.value;
  const at = seq === 0n ? call.seq : Number(seq);
  const found = run.ledger.calls.find((one) => one.seq === at && one.call === index);
  assert.ok(found !== undefined && (found.seq < call.seq || found.call < call.call), "B1");
  return resolved(run, found);
}

function conversationAt(run: FakeRun, seq: number): StoredMessage[] {
  let list: StoredMessage[] = [];
  for (let at = 1; at <= seq; at++) {
    const bytes = run.ledger.deltas.get(at);
    if (bytes === undefined) continue;
    const delta = fromBinary(ConversationDeltaSchema, bytes);
    list = [...list.slice(0, delta.keep), ...delta.appended.map((message) => inFull(run, message))];
  }
  return list;
}

function inFull(run: FakeRun, message: StoredMessage): StoredMessage {
  const parts = message.parts.map((part) => {
    if (part.sameAs === undefined) return part;
    const { sameAs, ...rest } = part;
    const value = run.ledger.textsAt(Number(sameAs.seq))[sameAs.part];
    assert.ok(value !== undefined, "the reference names a text");
    const kind =
      part.kind.case === "toolResult"
        ? { case: "toolResult" as const, value: { ...part.kind.value, text: value } }
        : { case: part.kind.case as "text", value };
    return { ...rest, kind };
  });
  return { ...message, parts };
}

const ref = (seq: bigint, call: number) => ({ $typeName: "cellaflow.content.v1.RequestRef", seq, call });
const storedBytes = (run: FakeRun): number =>
  run.ledger.calls.reduce((sum, call) => sum + call.requestBytes + call.response.length, run.deltaBytes);

describe("requests", () => {
  it("store 100 turns over 209 k tokens in 1.2 times the transcript", async () => {
    const llm = await startScriptedLlm({ script: () => ({ content: text(4_000) }) });
    const run = new FakeRun();
    const ask = sessionLlm(run.session);
    const options = { endpoint: { baseUrl: llm.baseUrl }, system: text(2_000), tools: TOOLS };
    for (let turn = 0; turn < 100; turn++) {
      run.push(user(text(4_360)));
      const { message } = await ask.generate("scripted-1", options);
      run.push(message);
    }
    await llm.close();
    const transcript = run.conversation.messages.reduce((sum, { parts }) => {
      const [part] = parts;
      return sum + (part?.type === "text" ? part.text.length : 0);
    }, 0);
    assert.ok(transcript / 4 >= 209_000, `${transcript / 4} tokens`);
    const stored = storedBytes(run);
    assert.ok(stored <= transcript * 1.2, `${stored} bytes stored for ${transcript}`);
    for (const call of run.ledger.calls.slice(-3)) resolved(run, call);
  });

  it("based on no conversation append only what the last one lacked", async () => {
    const llm = await startScriptedLlm({ script: () => ({ content: text(1_000) }) });
    const run = new FakeRun();
    const list: Message[] = [];
    for (let turn = 0; turn < 20; turn++) {
      list.push(user(text(1_000)));
      const options = { endpoint: { baseUrl: llm.baseUrl }, messages: list };
      list.push((await sessionLlm(run.session).generate("scripted-1", options)).message);
    }
    await llm.close();
    assert.ok(storedBytes(run) <= 39_000 * 1.2, String(storedBytes(run)));
    const last = run.ledger.calls.at(-1)!;
    assert.equal(last.request.base.case, "request");
    assert.deepEqual(resolved(run, last), list.slice(0, -1).map(toStored));
    // Each answer is in the ledger already: the request names it.
    assert.ok(last.request.appended[0]?.parts[0]?.sameAs !== undefined);
  });

  it("name settings that were stored before (B3)", async () => {
    const llm = await startScriptedLlm();
    const run = new FakeRun();
    const ask = sessionLlm(run.session);
    const to = { endpoint: { baseUrl: llm.baseUrl }, messages: "hi" };
    await ask.generate("scripted-1", { ...to, system: "one" });
    await ask.generate("scripted-1", { ...to, system: "two" });
    await ask.generate("scripted-1", { ...to, system: "one" });
    await llm.close();
    const [first, second, third] = run.ledger.calls.map((call) => call.request);
    assert.ok(first!.params.length > 0 && second!.params.length > 0);
    assert.equal(third!.params.length, 0);
    assert.equal(third!.paramsOf?.seq, 1n);
  });

  it("made in a zone are a base in the same attempt at once, elsewhere once it has committed (B1)", async () => {
    const llm = await startScriptedLlm();
    const run = new FakeRun();
    const to = { endpoint: { baseUrl: llm.baseUrl } };
    const list = [user(text(200))];
    let tries = 0;
    const zone = run.session.zone("z", { retry: { maxAttempts: 2 } }, async (host) => {
      const ask = zoneLlm(host);
      list.splice(1);
      list.push((await ask.generate("scripted-1", { ...to, messages: list })).message);
      list.push((await ask.generate("scripted-1", { ...to, messages: list })).message);
      if (++tries === 1) throw new Error("once more");
    });
    await zone;
    await sessionLlm(run.session).generate("scripted-1", { ...to, messages: list });
    await llm.close();
    const requests = run.ledger.calls.map(({ request }) => request);
    // The rolled back attempt's requests are named by nobody.
    assert.deepEqual(
      requests.map(({ base }) => base),
      [
        { case: "empty", value: true },
        { case: "request", value: ref(0n, 0) },
        { case: "request", value: ref(1n, 1) },
      ],
    );
    assert.deepEqual(
      requests.map(({ appended }) => appended.length),
      [1, 1, 1],
    );
    assert.deepEqual(requests[1]!.paramsOf, ref(0n, 0));
    for (const call of run.ledger.calls) resolved(run, call);
  });
});
