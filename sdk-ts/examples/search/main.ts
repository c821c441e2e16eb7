/**
 * Writes letters to customers and finds them again: node dist/examples/search/main.js [NAME]
 *
 * By label, state, version, time and cost; then a list that is read while new sessions arrive, which neither shift it nor
 * appear in it. Started again with the same name it writes nothing twice. `OPENAI_BASE_URL` names a model and `SEARCH_MODEL`
 * which; default: a scripted one of this process.
 */
import { createClient, createWorker, type ListOptions } from "@cellaflow/sdk";
import { letters } from "./workflow.js";

/** More than one page of a list holds (100). */
const QUEUED = 120;

const [name = "spring"] = process.argv.slice(2);
let close = async (): Promise<void> => {};
if (!process.env.OPENAI_BASE_URL) {
  const [{ startScriptedLlm }, { default: script }] = await Promise.all([
    import("@cellaflow/sdk/testing"),
    import("./script.js"),
  ]);
  const llm = await startScriptedLlm({ script });
  Object.assign(process.env, { OPENAI_BASE_URL: llm.baseUrl, OPENAI_API_KEY: "scripted" });
  close = () => llm.close();
}
const model = process.env.SEARCH_MODEL ?? "scripted-1";
const client = createClient();
const [first, second] = letters;

/** Six letters: customers 1 to 6, gold or iron, the last two of the second release and to be signed. */
async function write(): Promise<void> {
  const stop = new AbortController();
  const worker = createWorker({ workflows: letters }).run({ signal: stop.signal });
  for (let number = 1; number <= 6; number++) {
    const customer = `${name}-${number}`;
    const labels = { campaign: name, customer, tier: number % 2 === 0 ? "gold" : "iron" };
    const release = number > 4 ? second : first;
    const session = await client.start(release, { customer, model, sign: number > 4 }, { key: customer, labels });
    await session.result();
  }
  stop.abort();
  await worker;
}

/** The customers of the sessions that are found, newest first. */
async function found(options: ListOptions): Promise<string[]> {
  const customers: string[] = [];
  for await (const { labels } of client.list({ workflow: first.name, ...options }))
    customers.push(labels.customer ?? "?");
  return customers;
}

const queue = `${name} ${Date.now()}`;

/** Starts sessions that nobody runs. */
async function enqueue(kind: string, count: number): Promise<void> {
  const start = (_: unknown, at: number) =>
    client.start({ name: "search-queued", version: "1" }, kind, {
      key: `${kind} ${at} of ${queue}`,
      labels: { queue },
    });
  await Promise.all(Array.from({ length: count }, start));
}

await write();
const labels = { campaign: name };
const third = await client.get({ workflow: first.name, key: `${name}-3` });
const cost = third.totals.costNanos / 1e9;
console.log("all:          ", await found({ labels }));
console.log("gold:         ", await found({ labels: { ...labels, tier: "gold" } }));
console.log("waiting:      ", await found({ labels, status: ["waiting"] }));
console.log("release 2:    ", await found({ labels, version: "2" }));
console.log("before 3:     ", await found({ labels, startedBefore: third.startedAt }));
console.log(`from $${cost} on:`, await found({ labels, costMin: cost }));
console.log("gold, dear:   ", await found({ labels: { ...labels, tier: "gold" }, costMin: cost }));

await enqueue("early", QUEUED);
const keys: string[] = [];
for await (const { key = "" } of client.list({ labels: { queue } })) {
  if (keys.push(key) === 1) await enqueue("late", QUEUED); // They arrive while the list is read.
}
const late = keys.filter((key) => key.startsWith("late")).length;
console.log(
  `a list of ${QUEUED}: ${keys.length} sessions, ${new Set(keys).size} of them different, ${late} that came late`,
);
await client.terminate({ labels: { queue } });
console.log(
  `\nthe same on the command line:\n  cellaflow sessions list --label campaign=${name} --label tier=gold --cost-min ${cost}`,
);
await close();
