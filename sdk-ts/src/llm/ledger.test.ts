/**
 * What a reader of the ledger finds: every model request of a real session is rebuilt from its events alone, and its
 * running hash says that it is the list that was sent. Whoever reads archived sessions relies on this.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { create, fromBinary } from "@bufbuild/protobuf";
import { z } from "zod";
import { createClient } from "../client/client.js";
import {
  ConversationDeltaSchema,
  type LlmRequest,
  LlmRequestSchema,
  LlmResponseSchema,
  type Part,
  type Message as StoredMessage,
  ZoneRecordSchema,
} from "../gen/cellaflow/content/v1/content_pb.js";
import { type Payload, PayloadFormat } from "../gen/cellaflow/v1/common_pb.js";
import type { Event, LlmCall } from "../gen/cellaflow/v1/event_pb.js";
import { SessionService, SubscribeSessionRequestSchema } from "../gen/cellaflow/v1/session_pb.js";
import { connectionOf } from "../internal/connection.js";
import { runningHash } from "../runtime/conversation.js";
import { fromStored, type Message } from "../runtime/messages.js";
import { textsOfMessage } from "../runtime/texts.js";
import { workflow } from "../runtime/workflow.js";
import { startEngine, type TestEngine } from "../testing/engine.js";
import type { ScriptedRequest } from "../testing/openai-wire.js";
import { startScriptedLlm } from "../testing/scripted-llm.js";
import { decodeValue } from "../values/codec.js";
import { wireMessages } from "./body.js";

const skip = process.env.CELLAFLOW_BIN ? false : "CELLAFLOW_BIN names no engine";
let engine: TestEngine;

/** Reads a session's model requests as a stranger to the run would. */
class LedgerReader {
  private readonly bySeq = new Map<number, Event>();

  constructor(events: readonly Event[]) {
    for (const event of events) this.bySeq.set(Number(event.seq), event);
  }

  get requests(): { seq: number; call: number; request: LlmRequest }[] {
    return [...this.bySeq].flatMap(([seq, event]) =>
      callsOf(event).map((call, index) => ({ seq, call: index, request: requestOf(call) })),
    );
  }

  /** Returns the whole list of a request, texts in full. */
  messages(seq: number, call: number): StoredMessage[] {
    const event = this.bySeq.get(seq);
    const found = event === undefined ? undefined : callsOf(event)[call];
    assert.ok(found !== undefined, `there is no model call ${call} in event ${seq}`);
    const request = requestOf(found);
    const base = this.base(request, seq).slice(0, request.keep);
    const list = [...base, ...request.appended.map((message) => this.inFull(message, seq))];
    assert.equal(list.length, request.messages);
    const hash = list.reduce(runningHash, new Uint8Array(32));
    assert.deepEqual(Buffer.from(hash), Buffer.from(request.runningHash), `running hash of ${seq}/${call}`);
    return list;
  }

  /** Returns the settings of a request. */
  params(request: LlmRequest, seq: number): Record<string, unknown> {
    if (request.paramsOf === undefined) return JSON.parse(Buffer.from(request.params).toString()) as never;
    const at = Number(request.paramsOf.seq) || seq;
    const call = callsOf(this.bySeq.get(at) as Event)[request.paramsOf.call];
    assert.ok(call !== undefined);
    return this.params(requestOf(call), at);
  }

  private base(request: LlmRequest, seq: number): StoredMessage[] {
    if (request.base.case === "conversation") return this.conversation(seq);
    if (request.base.case !== "request") return [];
    const { seq: at, call } = request.base.value;
    return this.messages(Number(at) || seq, call);
  }

  private conversation(seq: number): StoredMessage[] {
    let list: StoredMessage[] = [];
    for (let at = 1; at <= seq; at++) {
      const delta = this.bySeq.get(at)?.conversationDelta;
      if (delta === undefined) continue;
      const { keep, appended } = fromBinary(ConversationDeltaSchema, bytesOf(delta));
      list = [...list.slice(0, keep), ...appended.map((message) => this.inFull(message, at))];
    }
    return list;
  }

  private inFull(message: StoredMessage, seq: number): StoredMessage {
    return { ...message, parts: message.parts.map((part) => this.partInFull(part, seq)) };
  }

  private partInFull(part: Part, seq: number): Part {
    const { sameAs, ...rest } = part;
    if (sameAs === undefined) return part;
    const at = Number(sameAs.seq) || seq;
    const text = textsOf(this.bySeq.get(at) as Event)[sameAs.part];
    assert.ok(text !== undefined, `text ${sameAs.part} of event ${at}`);
    if (part.kind.case !== "toolResult") return { ...rest, kind: { ...part.kind, value: text } as Part["kind"] };
    return { ...rest, kind: { case: "toolResult", value: { ...part.kind.value, text } } };
  }
}

/** The texts of an event in the order of `runtime/texts.ts`. */
function textsOf(event: Event): (string | undefined)[] {
  const texts: (string | undefined)[] = [];
  if (event.conversationDelta !== undefined) {
    texts.push(
      ...fromBinary(ConversationDeltaSchema, bytesOf(event.conversationDelta)).appended.flatMap(textsOfMessage),
    );
  }
  const { body } = event;
  if (body.case === "stepCompleted" || body.case === "zoneCommitted") texts.push(...textsOfOutput(body.value.output));
  if (body.case === "zoneCommitted") {
    for (const { outcome } of fromBinary(ZoneRecordSchema, bytesOf(body.value.record)).outcomes) {
      if (outcome.case === "llm") texts.push(...textsOfMessage(outcome.value.message));
      if (outcome.case === "output") texts.push(...ifText(decodeValue(outcome.value)));
    }
  }
  return [...texts, ...callsOf(event).flatMap((call) => requestOf(call).appended.flatMap(textsOfMessage))];
}

function textsOfOutput(output: Payload | undefined): (string | undefined)[] {
  if (output === undefined) return [];
  if (output.format !== PayloadFormat.LLM_RESPONSE) return ifText(decodeValue(bytesOf(output)));
  return textsOfMessage(fromBinary(LlmResponseSchema, bytesOf(output)).message);
}

const ifText = (value: unknown): string[] => (typeof value === "string" ? [value] : []);
const bytesOf = (of: Payload | undefined): Uint8Array => (of?.body.case === "data" ? of.body.value : new Uint8Array(0));
const requestOf = (call: LlmCall): LlmRequest => fromBinary(LlmRequestSchema, bytesOf(call.request));

function callsOf({ body }: Event): LlmCall[] {
  if (body.case === "stepCompleted") return body.value.llm === undefined ? [] : [body.value.llm];
  return body.case === "zoneCommitted" ? body.value.llmCalls : [];
}

async function eventsOf(sessionId: string): Promise<Event[]> {
  const request = create(SubscribeSessionRequestSchema, {
    session: { by: { case: "sessionId", value: sessionId } },
    fromSeq: 1n,
    untilCaughtUp: true,
  });
  const events: Event[] = [];
  const { client } = connectionOf(engine.connection);
  for await (const { body } of client.serverStream(SessionService.method.subscribeSession, request)) {
    if (body.case === "event") events.push(body.value);
  }
  return events;
}

const long = (text: string): string => `${text} `.repeat(20).trim();
const user = (content: string) => ({ role: "user" as const, content });

describe("the requests in a ledger", { skip }, () => {
  before(async () => {
    engine = await startEngine();
  });
  after(() => engine?.close());

  it("can be rebuilt from it alone, whatever they were based on, before and after a replay (B1, B2)", async () => {
    const sent: ScriptedRequest[] = [];
    const model = await startScriptedLlm({
      script: (request) => {
        sent.push(request);
        return { content: long(`answer ${sent.length}`) };
      },
    });
    const to = { endpoint: { baseUrl: model.baseUrl }, system: long("be brief") };
    const controller = new AbortController();
    let runs = 0;
    const mixed = workflow({ name: "mixed", version: "1", input: z.null() }, async (ctx) => {
      const found = await ctx.step("find", () => long("something found"));
      ctx.messages.push(user(long("a question")), user(found));
      ctx.messages.push((await ctx.llm.generate("scripted-1", to)).message);
      const inner = await ctx.zone("inside", async (zone) => {
        const note = await zone.step("note", () => long("a note"));
        const list: Message[] = [...ctx.messages.list, { role: "user", parts: [{ type: "text", text: note }] }];
        list.push((await zone.llm.generate("scripted-1", { ...to, messages: list })).message);
        list.push({ role: "user", parts: [{ type: "text", text: long("go on") }] });
        return (await zone.llm.stream("scripted-1", { ...to, messages: list }).final).message;
      });
      // A list of its own that repeats what the ledger has in several places.
      const own = [user(long("something else")), user(long("a note")), inner, user(long("go on"))];
      await ctx.llm.generate("scripted-1", { ...to, messages: own });
      await ctx.step("gate", () => {
        if (++runs > 1) return;
        controller.abort();
        throw new Error("interrupted");
      });
      ctx.messages.push(inner, user(long("and after the replay")));
      await ctx.llm.stream("scripted-1", to).final;
      await ctx.llm.generate("scripted-1", { ...to, messages: [...own, user(long("more"))] });
      return ctx.sessionId;
    });
    const client = createClient({ connection: engine.connection });
    await assert.rejects(client.run(mixed, null, { key: "mixed", signal: controller.signal }));
    const result = await client.run(mixed, null, { key: "mixed" });
    await model.close();
    assert.ok(result.status === "completed", JSON.stringify(result));

    const reader = new LedgerReader(await eventsOf(result.sessionId));
    const { requests } = reader;
    assert.equal(requests.length, sent.length);
    for (const [index, { seq, call, request }] of requests.entries()) {
      const [system, ...rest] = sent[index]?.messages ?? [];
      assert.deepEqual(reader.messages(seq, call).map(fromStored).flatMap(wireMessages), rest);
      assert.equal(reader.params(request, seq).system, system?.content);
    }
    const bases = requests.map(({ request }) => request.base.case);
    assert.deepEqual(bases, ["conversation", "conversation", "request", "empty", "conversation", "request"]);
    // The settings lie there once.
    assert.deepEqual(
      requests.map(({ request }) => request.params.length > 0),
      [true, false, false, false, false, false],
    );
    const repeated = requests[3]?.request.appended.filter(({ parts: [part] }) => part?.sameAs !== undefined);
    assert.equal(repeated?.length, 3);
  });
});
