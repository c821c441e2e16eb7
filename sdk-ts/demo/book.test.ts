import assert from "node:assert/strict";
import { it } from "node:test";
import { Resolution } from "#sdk/gen/cellaflow/v1/event_pb.js";
import { audit, event } from "#sdk/harness/events.fixture.js";
import { Book } from "./book.js";
import { bill, draw } from "./table.js";

function bookOf(...runs: ReturnType<typeof audit>[]): Book {
  const book = new Book();
  for (const [run, events] of runs.entries()) for (const one of events) book.take(String(run), one);
  return book;
}

it("counts outcomes, tokens and costs by name", () => {
  const rows = bookOf(audit(), audit()).rows;
  assert.deepEqual(rows, [
    { name: "scan", journaled: 2, replayed: 0, tokens: 0, costNanos: undefined },
    { name: "llm", journaled: 2, replayed: 0, tokens: 240, costNanos: 14 },
    { name: "audit", journaled: 2, replayed: 0, tokens: 240, costNanos: undefined },
    { name: "mail", journaled: 2, replayed: 0, tokens: 0, costNanos: undefined },
  ]);
});

it("counts what a new lease hands out again, once per lease", () => {
  const [started, lease, scan, llm] = audit();
  assert.ok(started && lease && scan && llm);
  const takeover = (seq: number) => event(seq, 9, { case: "leaseGranted", value: { epoch: BigInt(seq) } });
  const book = bookOf([started, lease, scan, takeover(4), llm, takeover(6)]);
  assert.deepEqual(
    book.rows.map((row) => [row.name, row.journaled, row.replayed]),
    [
      ["scan", 1, 2],
      ["llm", 1, 1],
    ],
  );
});

it("knows a guarded step that was resolved instead of completed, and a zone that failed for good", () => {
  const book = bookOf([
    event(1, 1, { case: "guardIntent", value: { stepKey: "mail#1", name: "mail" } }),
    event(2, 1, { case: "guardResolved", value: { stepKey: "mail#1", resolution: Resolution.NOT_APPLIED } }),
    event(3, 1, { case: "guardResolved", value: { stepKey: "mail#1", resolution: Resolution.OUTPUT } }),
    event(4, 1, { case: "zoneEntered", value: { zoneKey: "z#1", name: "z" } }),
    event(5, 1, { case: "zoneFailed", value: { zoneKey: "z#1", final: false } }),
    event(6, 1, { case: "zoneFailed", value: { zoneKey: "z#1", final: true } }),
  ]);
  assert.deepEqual(
    book.rows.map((row) => [row.name, row.journaled]),
    [
      ["mail", 1],
      ["z", 1],
    ],
  );
});

it("draws a table that fits, with a bill below", () => {
  const book = bookOf(audit());
  const view = {
    rows: book.rows,
    totals: book.totals,
    runs: { done: 1, planned: 3, completed: 1 },
    kills: 2,
    elapsedMs: 12_340,
    engineRssMb: 18.26,
    now: ["kill agent at 3: step completed scan#1"],
  };
  const lines = draw(view, 100);
  const rows = lines.map((line) => line.split(/ {2,}/));
  assert.deepEqual(rows[0], ["step", "journaled", "replayed", "tokens", "cost"]);
  assert.deepEqual(rows[2], ["scan", "1", "0", "-", "-"]);
  assert.deepEqual(rows[3], ["llm", "1", "0", "120", "$0.000000"]);
  assert.deepEqual(rows[4], ["audit", "1", "0", "120", "unknown"]);
  assert.deepEqual(rows[7], ["all steps", "4", "0", "240", "$0.000000"]);
  assert.equal(lines[0]?.length, lines[3]?.length, "columns line up");
  assert.ok(lines.includes(`running token bill: ${bill(book.totals)}`));
  assert.match(lines.join("\n"), /runs 1\/3 \(1 completed\) {3}kills 2 {3}engine 18\.3 MB {3}12\.34 s/);
  assert.equal(lines.at(-1), "  kill agent at 3: step completed scan#1");
  assert.ok(draw(view, 30).every((line) => line.length <= 30));
});
