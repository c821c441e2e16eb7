import assert from "node:assert/strict";
import { it } from "node:test";
import { create } from "@bufbuild/protobuf";
import { status as grpcStatus } from "@grpc/grpc-js";
import { SessionStatus } from "#sdk/gen/cellaflow/v1/common_pb.js";
import type { Event } from "#sdk/gen/cellaflow/v1/event_pb.js";
import { type SubscribeSessionResponse, SubscribeSessionResponseSchema } from "#sdk/gen/cellaflow/v1/session_pb.js";
import { audit } from "./events.fixture.js";
import { Watch } from "./watch.js";

type Answer = SubscribeSessionResponse | { code: number };

const shown = (event: Event): Answer =>
  create(SubscribeSessionResponseSchema, { body: { case: "event", value: event } });
const end: Answer = create(SubscribeSessionResponseSchema, {
  body: { case: "end", value: { seq: 9n, status: SessionStatus.COMPLETED } },
});

/** Answers each subscription with the next list; a code is thrown. */
function watching(answers: Answer[][]): { watch: Watch; seen: number[]; asked: bigint[] } {
  const seen: number[] = [];
  const asked: bigint[] = [];
  const source = {
    async *subscribe(request: { fromSeq?: bigint }) {
      asked.push(request.fromSeq ?? 0n);
      for (const answer of answers.shift() ?? []) {
        if ("code" in answer) throw Object.assign(new Error("scripted"), answer);
        yield answer;
      }
    },
  };
  const watch = new Watch(source as never, { workflow: "w", key: "k" }, (event) => seen.push(Number(event.seq)));
  return { watch, seen, asked };
}

it("W1: reports every event once, across an engine that goes away", async () => {
  const events = audit().map(shown);
  const { watch, seen, asked } = watching([
    [{ code: grpcStatus.NOT_FOUND }],
    [...events.slice(0, 4), { code: grpcStatus.UNAVAILABLE }],
    // The new engine repeats nothing; one event too many would not matter.
    [...events.slice(3), end],
  ]);
  assert.equal(await watch.ended, SessionStatus.COMPLETED);
  assert.deepEqual(seen, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assert.deepEqual(asked, [1n, 1n, 5n]);
});

it("W1: refuses a hole and passes on what asking again cannot repair", async () => {
  const [first, , third] = audit().map(shown);
  assert.ok(first && third);
  await assert.rejects(watching([[first, third]]).watch.ended, /event 3 after event 1/);
  await assert.rejects(watching([[{ code: grpcStatus.UNAUTHENTICATED }]]).watch.ended, /scripted/);
});
