/**
 * Four catalogues at work, and what an operator does to them: node dist/examples/operations/main.js [NAME]
 *
 * North and south read until they are stopped: paused together by a filter (tried out with a dry run first), one resumed and
 * cancelled, the other terminated. East and west read two pages and find the publisher down: paused, and retried together.
 */
import { setTimeout as delay } from "node:timers/promises";
import { createClient, createWorker, type SessionHandle } from "@cellaflow/sdk";
import { catalogue } from "./workflow.js";

const LOOK_MS = 20;

const [name = `run ${Date.now()}`] = process.argv.slice(2);
const client = createClient();
const stop = new AbortController();
const worker = createWorker({ workflows: [catalogue] }).run({ signal: stop.signal });

function start(shop: string, region: string, pages?: number) {
  const input = pages === undefined ? { shop } : { shop, pages };
  return client.start(catalogue, input, { key: `${shop} of ${name}`, labels: { run: name, region } });
}

const pages = async (session: SessionHandle): Promise<number> => (await session.get()).steps;

async function readsOn(session: SessionHandle, from = 0): Promise<void> {
  while ((await pages(session)) <= from) await delay(LOOK_MS);
}

const north = await start("north", "coast");
const south = await start("south", "coast");
const inland = [await start("east", "inland", 2), await start("west", "inland", 2)];
await Promise.all([readsOn(north), readsOn(south)]);

// One filter, several sessions. A dry run says which, and changes nothing.
const coast = { workflow: catalogue.name, labels: { run: name, region: "coast" } };
const would = await client.pause(coast, { dryRun: true });
const { pauseReason } = await north.get();
console.log(`would pause ${would.matched}; north is paused: ${pauseReason !== undefined}`);
const paused = await client.pause(coast, { reason: "the coast is closed" });
console.log(`paused ${paused.done}, refused ${paused.refused}: ${(await north.result()).status}`);
const had = await pages(north);

// Their attempts are used up; whoever has looked at the publisher lets them try again.
for (const session of inland) console.log(`inland: ${(await session.result({ whileWaiting: "follow" })).status}`);
const exhausted = { workflow: catalogue.name, labels: { run: name }, pauseReason: "retries_exhausted" } as const;
console.log(`retried ${(await client.retry(exhausted)).done}`);
for (const session of inland) console.log("inland:", await session.result({ whileWaiting: "follow" }));
console.log(`north: ${had} pages when it was paused, ${await pages(north)} now`); // A begun page may have been the last.

await client.resume(north.sessionId);
await readsOn(north, had + 1);
console.log("north reads on");

// A cancelled session cleans up; a terminated one does not.
await client.cancel({ workflow: catalogue.name, key: `north of ${name}` }, { reason: "closed for good" });
await client.terminate(south.sessionId, { reason: "its database is gone" });
for (const [shop, session] of [["north", north] as const, ["south", south] as const]) {
  const { status } = await session.result({ whileWaiting: "follow" });
  const steps: (string | undefined)[] = [];
  for await (const event of session.events({ live: false })) if (event.kind === "stepCompleted") steps.push(event.name);
  console.log(`${shop}: ${status}, ${steps.includes("tidy") ? "cleaned up" : "as it was left"}`);
}
console.log(`\nthe same on the command line:\n  cellaflow sessions pause --label region=coast --dry-run`);
stop.abort();
await worker;
