import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Acknowledgement, isMidStream, type ServerRequest, settle, type Target } from "./account.js";

function request(received_ms: number, changes: Partial<ServerRequest> = {}): ServerRequest {
  return {
    session: "s",
    call: "llm#1",
    status: 200,
    received_ms,
    first_byte_ms: received_ms + 1,
    last_byte_ms: received_ms + 10,
    complete: true,
    charged: true,
    prompt_tokens: 100,
    completion_tokens: 10,
    ...changes,
  };
}

const cut = { complete: false, last_byte_ms: null };
const held = (ms: number, changes: Partial<Acknowledgement> = {}): Acknowledgement => ({
  session: "s",
  call: "llm#1",
  seq: 3,
  ms,
  ...changes,
});
const bill = (requests: ServerRequest[], acks: Acknowledgement[], target: Target = "agent") =>
  settle(requests, acks, () => target);

describe("A1: redundant", () => {
  it("counts a request after the acknowledgement was held", () => {
    assert.equal(bill([request(100), request(200)], [held(150)]).redundant, 1);
    assert.equal(bill([request(100), request(200), request(300)], [held(150)]).redundant, 2);
  });
  it("counts from the first time it was held, whichever process held it", () => {
    assert.equal(bill([request(100), request(200)], [held(300), held(150)]).redundant, 1);
  });
  it("counts a repetition in the very millisecond of the acknowledgement", () => {
    assert.equal(bill([request(100), request(150)], [held(150)]).redundant, 1);
  });
  it("lets the request pass that was acknowledged, and one whose acknowledgement nobody held", () => {
    assert.equal(bill([request(100)], [held(150)]).redundant, 0);
    assert.equal(bill([request(100)], [held(100)]).redundant, 0);
    assert.equal(bill([request(100), request(200)], []).redundant, 0);
  });
  it("keeps sessions and calls apart", () => {
    assert.equal(bill([request(200)], [held(100, { call: "llm#2" }), held(100, { session: "t" })]).redundant, 0);
  });
});

describe("A2: interrupted", () => {
  it("counts what the server could not write to the end, a reset before the first byte included", () => {
    assert.equal(bill([request(100, cut), request(200, { ...cut, first_byte_ms: null })], []).interrupted, 2);
    assert.equal(bill([request(100)], []).interrupted, 0);
  });
  it("counts apart those in runs where only the engine was killed", () => {
    const requests = [
      request(100, cut),
      request(100, { ...cut, session: "e" }),
      request(100, { ...cut, session: "b" }),
    ];
    const targets: Record<string, Target> = { s: "agent", e: "engine", b: "both" };
    assert.equal(settle(requests, [], (session) => targets[session] ?? "none").interruptedByEngineKills, 1);
  });
});

describe("A3: repaid", () => {
  it("counts a whole answer that is asked for again", () => {
    assert.equal(bill([request(100), request(200)], []).repaid, 1);
    assert.equal(bill([request(200), request(100), request(300)], []).repaid, 2);
  });
  it("does not count after an answer that was cut off, refused or still under way", () => {
    assert.equal(bill([request(100, cut), request(200)], []).repaid, 0);
    assert.equal(bill([request(100, { status: 500, charged: false }), request(200)], []).repaid, 0);
    assert.equal(bill([request(100, { last_byte_ms: 250 }), request(200)], []).repaid, 0);
  });
});

it("notices that the acknowledgement log says nothing about a call", () => {
  assert.equal(bill([request(100)], [], "none").unwitnessed, 1);
  assert.equal(bill([request(100)], [held(150)], "none").unwitnessed, 0);
  assert.equal(bill([request(100)], [], "agent").unwitnessed, 0, "a kill may come between commit and acknowledgement");
});

it("adds up what was charged", () => {
  assert.equal(bill([request(100), request(200, cut), request(300, { charged: false })], []).tokens, 220);
});

it("knows whether a kill came while an answer was being written", () => {
  const requests = [request(100), request(300, cut)];
  for (const [at, is] of [
    [100, false],
    [105, true],
    [111, false],
    [300, false],
    [400, true],
  ] as const) {
    assert.equal(isMidStream(requests, "s", at), is, `at ${at}`);
  }
  assert.equal(isMidStream(requests, "t", 105), false);
});
