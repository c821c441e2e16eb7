/** Sessions that continue as others are one stream (M5), and offsets find their place in it (O2), without an engine. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { CellaflowError } from "../errors.js";
import { SessionSchema, SessionStatus } from "../gen/cellaflow/v1/common_pb.js";
import { EventSchema } from "../gen/cellaflow/v1/event_pb.js";
import {
  type GetSessionRequest,
  GetSessionResponseSchema,
  type SubscribeSessionRequest,
  SubscribeSessionResponseSchema,
} from "../gen/cellaflow/v1/session_pb.js";
import type { ClientCore } from "./core.js";
import { isEndOffset, offsetOf, positionOf } from "./offset.js";
import { type StreamItem, subscribe } from "./subscribe.js";

const id = (n: number): string => `01a20787-557a-7c83-bc25-00000000000${n}`;

/** Two events in each of three sessions; the second one begins late; the fourth is somebody else's. */
function chain(): ClientCore {
  const next = new Map([
    [id(1), id(2)],
    [id(2), id(3)],
  ]);
  let late = 2;
  const named = (request: GetSessionRequest | SubscribeSessionRequest): string =>
    request.session?.by.case === "sessionId" ? request.session.by.value : "";
  async function* stream(_method: unknown, request: SubscribeSessionRequest) {
    const session = named(request);
    if (session === id(2) && late-- > 0) throw new CellaflowError("session_not_found", "not yet", "wait");
    const successorId = next.get(session);
    const last =
      successorId === undefined
        ? create(EventSchema, { seq: 2n, body: { case: "sessionCompleted", value: {} } })
        : create(EventSchema, { seq: 2n, body: { case: "sessionContinued", value: { successorId } } });
    const events = [create(EventSchema, { seq: 1n, body: { case: "sessionStarted", value: {} } }), last];
    for (const event of events.filter(({ seq }) => seq >= request.fromSeq)) {
      yield create(SubscribeSessionResponseSchema, { body: { case: "event", value: event } });
    }
    const end = { seq: 2n, status: SessionStatus.COMPLETED };
    yield create(SubscribeSessionResponseSchema, { body: { case: "end", value: end } });
  }
  async function call(_method: unknown, request: GetSessionRequest) {
    const sessionId = named(request);
    return create(GetSessionResponseSchema, {
      session: create(SessionSchema, { sessionId, continuedTo: next.get(sessionId) ?? "" }),
    });
  }
  return { stream, call, open: (message: unknown) => message } as unknown as ClientCore;
}

async function all(stream: AsyncIterable<StreamItem>): Promise<StreamItem[]> {
  const items: StreamItem[] = [];
  for await (const item of stream) items.push(item);
  return items;
}

const short = (items: readonly StreamItem[]): string[] =>
  items.map((item) => `${item.sessionId.at(-1)} ${item.type === "event" ? item.event.kind : item.type}`);

test("M5 O2 a chain of sessions is one stream, resumable everywhere by the name of any of them", async () => {
  const core = chain();
  const items = await all(subscribe(core, id(1), {}));
  assert.deepEqual(short(items), [
    "1 sessionStarted",
    "1 sessionContinued",
    "2 sessionStarted",
    "2 sessionContinued",
    "3 sessionStarted",
    "3 sessionCompleted",
    "3 end",
  ]);
  for (const [index, { offset }] of items.entries()) {
    for (const name of [id(1), id(2), id(3)]) {
      const rest = await all(subscribe(core, name, { from: offset }));
      assert.deepEqual(short(rest), short(items.slice(index + 1)), `item ${index} by ${name}`);
    }
    await assert.rejects(all(subscribe(core, id(4), { from: offset })), { code: "invalid_offset" });
  }
  assert.ok(isEndOffset(items.at(-1)?.offset ?? ""));
});

test("O1 an offset comes back as it was, whatever the zones are called", () => {
  const zones = new Map([
    ["end", { attempt: 1, byte: 0 }],
    ['scope/ünïcode "zone"#1,2', { attempt: 12, byte: 2 ** 40 }],
  ]);
  const offset = offsetOf(id(1), { nextSeq: 7, zones, ended: false });
  assert.match(offset, /^[!-+\--~]+$/);
  assert.deepEqual(positionOf(offset), { sessionId: id(1), position: { nextSeq: 7, zones, ended: false } });
  assert.ok(!isEndOffset(offset));
  assert.ok(!isEndOffset(`1.${id(1)}.7.1.0.end`));
});
