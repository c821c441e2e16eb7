import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { CellaflowError, NonDeterminismError, NonRetryableError, NotApplied } from "./errors.js";
import { FAILURE_CAUSES_MAX, FAILURE_MESSAGE_CHARS_MAX, isRetryable, StepError, toFailure } from "./failure.js";
import { misuse } from "./misuse.js";
import { decodeValue, encodeValue } from "./values/codec.js";

describe("F1: whatever was thrown becomes a failure", () => {
  it("an error with a cause", () => {
    const thrown = new TypeError("outer", { cause: new RangeError("inner") });
    assert.deepEqual(toFailure(thrown), {
      name: "TypeError",
      code: "error",
      message: "outer",
      retryable: true,
      cause: { name: "RangeError", code: "error", message: "inner", retryable: true },
    });
  });

  it("what is no error", () => {
    assert.equal(toFailure("text").message, "text");
    assert.equal(toFailure(undefined).message, "undefined");
    assert.equal(toFailure(Object.create(null)).message, "a value that cannot be shown");
  });

  it("an error whose fields throw", () => {
    const thrown = Object.defineProperty(new Error("x"), "data", {
      get() {
        throw new Error("getter");
      },
    });
    assert.equal(toFailure(thrown).message, "x");
  });

  it("is bounded: message, chain, cyclic chain", () => {
    const cyclic = new Error("y".repeat(100_000));
    cyclic.cause = cyclic;
    const failure = toFailure(cyclic);
    assert.equal(failure.message.length, FAILURE_MESSAGE_CHARS_MAX);
    let links = 0;
    for (let at: typeof failure | undefined = failure; at !== undefined; at = at.cause) links++;
    assert.equal(links, FAILURE_CAUSES_MAX);
  });

  it("data that cannot be stored is left out, other data is kept", () => {
    assert.equal("data" in toFailure(Object.assign(new Error("x"), { data: { f: () => 1 } })), false);
    assert.deepEqual(toFailure(Object.assign(new Error("x"), { data: { n: 1n } })).data, { n: 1n });
  });

  it("holds no stack trace", () => {
    assert.equal(JSON.stringify(toFailure(new Error("x"))).includes(".js"), false);
  });
});

it("F2: a StepError gives the same failure back, also through the ledger", () => {
  const failure = toFailure(
    new NonRetryableError("no", { code: "card_declined", data: { n: 1 }, cause: new Error("c") }),
  );
  const stored = decodeValue(encodeValue(failure)) as typeof failure;
  const error = new StepError(stored);
  assert.deepEqual(error.toFailure(), failure);
  assert.equal(StepError.from(error), error);
  assert(error.cause instanceof StepError);
  assert.equal(error.name, "NonRetryableError");
  assert.equal(error.code, "card_declined");
});

it("retryable follows the error's own word, then its HTTP status, else yes", () => {
  const status = (code: number, more: object = {}): Error =>
    Object.assign(new Error("http"), { status: code, ...more });
  assert.equal(isRetryable(new NonRetryableError("x")), false);
  assert.equal(isRetryable(new NotApplied()), true);
  assert.deepEqual(
    [400, 401, 404, 408, 409, 422, 429, 500, 503].map((code) => isRetryable(status(code))),
    [false, false, false, true, true, false, true, true, true],
  );
  assert.equal(isRetryable(status(500, { isRetryable: false })), false);
  assert.equal(isRetryable(status(400, { retryable: true })), true);
  assert.equal(isRetryable("text"), true);
});

it("E1: messages start with the code and end with the action", () => {
  const error = new CellaflowError("key_conflict", "the key is taken", "use another key", { retryable: true });
  assert.equal(error.message, "key_conflict: the key is taken; use another key");
  assert.equal(error.name, "CellaflowError");
  for (const caught of [
    misuse.ctxInsideStep("s", "step"),
    misuse.unawaitedSteps(["a", "b"]),
    misuse.guardedStepWithoutInput("s"),
    misuse.guardedStepInZone("s", "z"),
    misuse.outerCtxInsideZone("step", "z"),
    misuse.duplicateStepKey("k"),
    misuse.ctxAfterEnd("step"),
    misuse.invalidValue("input", "w", ["a: b"]),
    new NonDeterminismError('step "a"', 'step "b"'),
    new NonDeterminismError('step "a"', ""),
  ]) {
    assert(caught.message.startsWith(`${caught.code}: `), caught.message);
    assert.match(caught.message, /; (call|await|pass|run|use|give|start) /);
    assert.equal(caught.retryable, false);
    assert.equal(toFailure(caught).code, caught.code);
  }
});
