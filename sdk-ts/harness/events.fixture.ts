/** Makes events for the tests, in the shapes the engine sends. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Event, EventSchema } from "#sdk/gen/cellaflow/v1/event_pb.js";

type Body = NonNullable<MessageInitShape<typeof EventSchema>["body"]>;

/** One event. */
export function event(seq: number, timeMs: number, body: Body): Event {
  return create(EventSchema, { seq: BigInt(seq), timeMs: BigInt(timeMs), body });
}

const usage = { provider: "openai", model: "m", inputTokens: 90n, cachedReadTokens: 10n, outputTokens: 20n };

/** A small audit: a plain step, a model call, a zone with a stream, a guarded mail, the end. */
export function audit(): Event[] {
  return [
    event(1, 1_000, { case: "sessionStarted", value: { rootId: "root" } }),
    event(2, 1_000, { case: "leaseGranted", value: { epoch: 1n } }),
    event(3, 1_100, { case: "stepCompleted", value: { stepKey: "scan#1", name: "scan", durationUs: 80_000n } }),
    event(4, 1_160, {
      case: "stepCompleted",
      value: { stepKey: "llm#1", name: "llm", durationUs: 50_000n, llm: { usage: { ...usage, costNanos: 7n } } },
    }),
    event(5, 1_170, { case: "zoneEntered", value: { zoneKey: "audit#1", name: "audit", attempt: 1 } }),
    event(6, 1_570, {
      case: "zoneCommitted",
      value: { zoneKey: "audit#1", attempt: 1, durationUs: 400_000n, llmCalls: [{ usage }] },
    }),
    event(7, 1_580, { case: "guardIntent", value: { stepKey: "mail#1", name: "mail", attempt: 1 } }),
    event(8, 1_600, {
      case: "stepCompleted",
      value: { stepKey: "mail#1", name: "mail", guarded: true, durationUs: 19_000n },
    }),
    event(9, 1_610, { case: "sessionCompleted", value: {} }),
  ];
}
