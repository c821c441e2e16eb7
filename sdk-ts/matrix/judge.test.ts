import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { create } from "@bufbuild/protobuf";
import {
  ConversationDeltaSchema,
  LlmResponseSchema,
  MessageSchema,
  PartSchema,
  StateDeltaSchema,
} from "#sdk/gen/cellaflow/content/v1/content_pb.js";
import { type PayloadFormat, PayloadFormat as Wire } from "#sdk/gen/cellaflow/v1/common_pb.js";
import { type Event, Resolution, UnknownReason } from "#sdk/gen/cellaflow/v1/event_pb.js";
import { event } from "#sdk/harness/events.fixture.js";
import { documentPayload, payload } from "#sdk/runtime/payloads.js";
import { encodeValue } from "#sdk/values/codec.js";
import { finalOf } from "./final.js";
import { duplicates, firstDifference, inspectEffects, lostAcks, unknownsOf } from "./judge.js";
import { planOf, sampleOf } from "./points.js";
import { faultsOf, type Measured, resultOf } from "./result.js";

const intent = (seq: number, attempt = 1): Event =>
  event(seq, seq, { case: "guardIntent", value: { stepKey: "mail#1", name: "mail", attempt } });
const unknown = (seq: number): Event =>
  event(seq, seq, { case: "guardUnknown", value: { stepKey: "mail#1", attempt: 1, reason: UnknownReason.NO_OUTCOME } });
const resolved = (seq: number, by: string, resolution: Resolution): Event =>
  event(seq, seq, { case: "guardResolved", value: { stepKey: "mail#1", attempt: 1, resolution, by } });
const done = (seq: number): Event =>
  event(seq, seq, { case: "stepCompleted", value: { stepKey: "mail#1", name: "mail", guarded: true } });
const end = (seq: number): Event => event(seq, seq, { case: "sessionCompleted", value: {} });

describe("J1: acknowledged appends", () => {
  const ledger = [intent(1), done(2), end(3)];
  const line = { session: "s", call: "", step: "mail#1", kind: "stepCompleted", seq: 2 };

  it("are in the ledger where they were acknowledged", () => {
    assert.deepEqual(lostAcks("s", ledger, [line, { ...line, step: "", kind: "sessionCompleted", seq: 3 }]), []);
  });
  for (const [what, wrong] of Object.entries({
    "beyond the ledger's end": { ...line, seq: 4 },
    "where another step is": { ...line, step: "other#1" },
  })) {
    it(`are lost when they are ${what}`, () => assert.equal(lostAcks("s", ledger, [wrong]).length, 1));
  }
  it("of other sessions and lines about model calls are left alone", () => {
    assert.deepEqual(
      lostAcks("s", ledger, [
        { ...line, session: "t", seq: 9 },
        { ...line, call: "x", seq: 9 },
      ]),
      [],
    );
  });
});

describe("J2: unknown effects", () => {
  it("a known outcome needs no report", () => {
    assert.deepEqual(unknownsOf([intent(1), done(2), end(3)]), { reported: 0, unreported: [] });
  });
  it("reported, resolved, attempted again", () => {
    const events = [intent(1), unknown(2), unknown(3), resolved(4, "reconcile", Resolution.NOT_APPLIED), intent(5, 2)];
    assert.deepEqual(unknownsOf([...events, done(6)]), { reported: 1, unreported: [] });
  });
  it("the tool itself may say that it did nothing", () => {
    const events = [intent(1), resolved(2, "tool", Resolution.NOT_APPLIED), intent(3, 2), done(4)];
    assert.deepEqual(unknownsOf(events).unreported, []);
  });
  for (const [what, events] of Object.entries({
    "resolved without a word": [intent(1), resolved(2, "somebody", Resolution.OUTPUT)],
    "attempted again without a word": [intent(1), intent(2, 2), done(3)],
    "left open at the end": [intent(1), end(2)],
  })) {
    it(`finds one that was ${what}`, () => assert.equal(unknownsOf(events).unreported.length, 1));
  }
});

it("J3: counts what was made beyond once, per server", () => {
  const effect = (server: "charge" | "mail", key: string) => ({ server, key, atMs: 0, text: key });
  const effects = [effect("charge", "a"), effect("mail", "a"), effect("charge", "b"), effect("charge", "b")];
  assert.deepEqual(duplicates([...effects, effect("charge", "b")]), ["charge b again", "charge b again"]);
  assert.equal(inspectEffects(effects, new Map([["b", "<run>"]])), "charge <run>\ncharge a\nmail a");
});

it("names the first difference of two ends", () => {
  assert.equal(firstDifference("a\nb", "a\nb"), "");
  assert.match(firstDifference("a\nb", "a\nc"), /expected: b\n +found: +c/);
  assert.match(firstDifference("a", "a\nc"), /found: +c/);
});

describe("what a session came to", () => {
  const value = (of: unknown, format: PayloadFormat = Wire.VALUE) => payload(format, encodeValue(of));
  const text = "a text that is long enough to be named instead of repeated, which saves bytes";
  const said = create(MessageSchema, { role: "assistant", parts: [{ kind: { case: "text", value: text } }] });
  const named = create(MessageSchema, {
    role: "assistant",
    parts: [create(PartSchema, { kind: { case: "text", value: "" }, sameAs: { seq: 2n, part: 0 } })],
  });

  it("is its output, its state and its conversation with the texts that are only named", () => {
    const answer = documentPayload(Wire.LLM_RESPONSE, LlmResponseSchema, create(LlmResponseSchema, { message: said }));
    const events = [
      event(1, 1, { case: "sessionStarted", value: {} }),
      event(2, 2, { case: "stepCompleted", value: { stepKey: "llm#1", output: answer } }),
      event(3, 3, { case: "sessionCompleted", value: { output: value({ n: 1 }) } }),
    ];
    const writes = [{ key: "kept", value: encodeValue([1]) }, { key: "gone", value: encodeValue(2) }, { key: "gone" }];
    const delta = create(ConversationDeltaSchema, { keep: 0, appended: [named] });
    Object.assign(events[2] as Event, {
      stateDelta: documentPayload(Wire.STATE_DELTA, StateDeltaSchema, create(StateDeltaSchema, { writes })),
      conversationDelta: documentPayload(Wire.CONVERSATION_DELTA, ConversationDeltaSchema, delta),
    });
    const final = finalOf(events);
    assert.equal(final.end, "sessionCompleted");
    assert.deepEqual(final.output, { n: 1 });
    assert.deepEqual(final.state, { kept: [1] });
    assert.deepEqual(final.messages, [{ role: "assistant", parts: [{ text }] }]);
  });
});

describe("the plan", () => {
  const point = (seq: number) => ({
    session: "root",
    place: { kind: "boundary" as const, seq, waitMs: 0, label: String(seq) },
  });

  it("hits every point in every way", () => {
    const plan = planOf([point(1), point(2)]);
    assert.deepEqual(
      plan.map(({ point: { place }, hit }) => `${hit} ${place.seq}`),
      ["worker 1", "engine 1", "both 1", "freeze 1", "worker 2", "engine 2", "both 2", "freeze 2"],
    );
  });
  it("a sample meets every hit, although the plan repeats", () => {
    const plan = planOf(Array.from({ length: 40 }, (_, seq) => point(seq)));
    const sample = sampleOf(plan, 10, 4);
    assert.equal(sample.length, 10);
    assert.equal(new Set(sample.map(({ hit }) => hit)).size, 4);
    assert.equal(new Set(sample).size, 10);
    assert.deepEqual(sampleOf(plan, 1_000, 4), plan);
    assert.equal(new Set(sampleOf(plan, 100, 4)).size, 100);
  });
});

describe("the result", () => {
  const good: Measured = {
    points: 3,
    runs: 14,
    lost: [],
    duplicates: [],
    redundant: [],
    stuck: [],
    different: [],
    unreported: [],
    broken: [],
    unknownReported: 2,
  };

  it("is one line of a fixed shape", () => {
    assert.equal(
      JSON.stringify(resultOf(good)),
      '{"kill_matrix":{"points":3,"runs":14,"lost_acked":0,"duplicate_effects":0,"redundant_llm_requests":0,"unknown_reported":2,"stuck":0}}',
    );
    assert.deepEqual(faultsOf(good), []);
  });
  for (const name of ["lost", "duplicates", "redundant", "stuck", "different", "unreported", "broken"] as const) {
    it(`does not hide what is ${name}`, () => assert.equal(faultsOf({ ...good, [name]: ["x"] }).length, 1));
  }
  it("a matrix that ran nothing held nothing", () => assert.equal(faultsOf({ ...good, runs: 0 }).length, 1));
});
