import assert from "node:assert/strict";
import { it } from "node:test";
import { create } from "@bufbuild/protobuf";
import { SessionStatus } from "#sdk/gen/cellaflow/v1/common_pb.js";
import type { Event } from "#sdk/gen/cellaflow/v1/event_pb.js";
import { SubscribeSessionResponseSchema } from "#sdk/gen/cellaflow/v1/session_pb.js";
import { event } from "#sdk/harness/events.fixture.js";
import { Tree } from "./tree.js";

const started = (rootId: string): Event => event(1, 1, { case: "sessionStarted", value: { rootId } });
const done = (seq: number): Event => event(seq, seq, { case: "sessionCompleted", value: {} });
/** An event whose body this test need not know whole. */
const other = (seq: number, kind: string, value: object): Event =>
  Object.assign(event(seq, seq, { case: "leaseReleased", value: {} }), { body: { case: kind, value } }) as Event;

/** Sessions by id or key, each with its whole ledger. */
function source(ledgers: Record<string, Event[]>) {
  return {
    async *subscribe(request: { session?: { by?: { value?: unknown } } }) {
      const by = request.session?.by?.value as string | { key: string };
      for (const one of ledgers[typeof by === "string" ? by : by.key] ?? []) {
        yield create(SubscribeSessionResponseSchema, { body: { case: "event", value: one } });
      }
      const end = { seq: 1n, status: SessionStatus.COMPLETED };
      yield create(SubscribeSessionResponseSchema, { body: { case: "end", value: end } });
    },
  };
}

it("follows children, successors and forks, each once, under labels that two runs share", async () => {
  const ledgers = {
    key: [
      started("r"),
      other(2, "childSpawned", { stepKey: "ask#1", childId: "c" }),
      other(3, "sessionContinued", { successorId: "s" }),
    ],
    c: [started("c"), other(2, "childSpawned", { stepKey: "ask#1", childId: "g" }), done(3)],
    g: [started("g"), done(2)],
    s: [started("s"), done(2)],
    f: [started("r"), done(2)],
  };
  const seen: string[] = [];
  const tree = new Tree(source(ledgers) as never, ({ label }, { seq }) => seen.push(`${label} ${seq}`));
  tree.start({ workflow: "w", key: "key" });
  for (let tries = 0; tries < 200 && !(tree.branches.size === 4 && tree.ended); tries += 1) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  tree.add("f");
  tree.add("f");
  tree.add("c");
  assert.equal(tree.ended, false, "a fork that was just added has to end, too");
  for (let tries = 0; tries < 200 && !tree.ended; tries += 1) await new Promise((resolve) => setTimeout(resolve, 5));
  const ids = [...tree.branches.values()].map(({ label, watch }) => `${label}=${watch.sessionId}`);
  assert.deepEqual(ids.sort(), ["fork-1=f", "root/ask#1/ask#1=g", "root/ask#1=c", "root=r", "root>=s"]);
  assert.equal(new Set(seen).size, seen.length);
  assert.equal(seen.length, 12);
});
