import assert from "node:assert/strict";
import { it } from "node:test";
import type { ServerRequest } from "#sdk/harness/account.js";
import { differences, type Spent } from "./archive.js";

const asked = (call: string, changed: Partial<ServerRequest> = {}): ServerRequest => ({
  session: "s",
  call,
  status: 200,
  received_ms: 1,
  first_byte_ms: 2,
  last_byte_ms: 3,
  complete: true,
  charged: true,
  prompt_tokens: 10,
  completion_tokens: 2,
  ...changed,
});

const spent: Spent = { session: "s", prompt_tokens: 20, completion_tokens: 4, cost_nanos: 20 * 250 + 4 * 2_000 };

it("takes one whole answer to each call, however often it was asked for", () => {
  const torn = asked("two", { complete: false, completion_tokens: 1 });
  assert.deepEqual(differences([spent], [asked("one"), torn, asked("two"), asked("two")]), []);
});

it("says where archive and model server disagree", () => {
  const requests = [asked("one"), asked("two")];
  assert.equal(differences([{ ...spent, completion_tokens: 5 }], requests).length, 1, "tokens");
  assert.equal(differences([{ ...spent, cost_nanos: 1 }], requests).length, 1, "cost");
  assert.equal(differences([], requests).length, 1, "a session that is not there");
});
