/** The examples of timers, signals, queries and approvals as processes on a real engine: what their headers say works. */
import assert from "node:assert/strict";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { startCountingServer, startEngine, type TestEngine } from "@cellaflow/sdk/testing";
import { type Example, skip, startCli, startExample } from "./process-kit.js";

describe("examples that wait", { skip }, () => {
  let engine: TestEngine;
  before(async () => {
    engine = await startEngine({ flags: ["--lease-ttl-ms", "1500"] });
  });
  after(() => engine.close());

  const start = (main: string, args: readonly string[], more?: NodeJS.ProcessEnv): Example =>
    startExample(engine, main, args, more);

  it("reminders go on after a kill, and each mail is one", async () => {
    const args = ["the plants", "0.4", "3"];
    const first = start("reminders/main.js", args);
    await first.said("now: mail#1");
    await first.kill();
    const second = start("reminders/main.js", args);
    const text = await second.ended();
    assert.match(text, /recorded: mail#1/);
    assert.match(text, /\{ sent: 3 \}/);
  });

  it("a customer talks to the support desk, and the talk can be looked at", async () => {
    const desk = start("support-desk/main.js", ["serve"]);
    const desks = [desk];
    await desk.said("serving");
    await start("support-desk/main.js", ["say", "Ann", "My", "chain", "squeaks."]).ended();
    const show = (): Promise<string> => start("support-desk/main.js", ["show", "Ann"]).ended();
    let talk = await show();
    for (const until = Date.now() + 20_000; !talk.includes("assistant:") && Date.now() < until; ) talk = await show();
    assert.match(talk, /user: My chain squeaks\.\nassistant: That is your question number 1/);
    // Nobody is there while it is closed.
    await desk.kill();
    await start("support-desk/main.js", ["say", "Ann", "bye"]).ended();
    desks.push(start("support-desk/main.js", ["serve"]));
    for (const until = Date.now() + 20_000; !talk.includes("closed") && Date.now() < until; ) talk = await show();
    assert.match(talk, /session: 'completed', .*turns: 1/);
    for (const one of desks) await one.kill();
  });

  it("an order that slept through an upgrade is finished by compatible code, charged once", async () => {
    const books = await startCountingServer();
    const more = { CHARGE_URL: books.url };
    const cli = (...args: string[]): Example => startCli(engine, ...args);
    const old = start("upgrade/main.js", ["serve", "1.0.0"], more);
    const tea = start("upgrade/main.js", ["order", "tea", "3"]);
    await old.said("now: charge#1");
    await old.kill();
    const code = join(import.meta.dirname, "upgrade/workflow.js");
    const check = (version: string): Example => cli("sessions", "check", "--code", code, "--as", version);
    assert.match(await check("1.1.0").ended(), /compatible with order@1\.1\.0/);
    assert.match(await check("2.0.0").ended(1), /diverges from .* at "charge#1"[\s\S]*requested: timer "packing#1"/);
    assert.match(await cli("workflows", "drain", "order@1.0.0").ended(), /start a worker that serves order@1\.0\.0/);
    const next = start("upgrade/main.js", ["serve", "1.1.0", "2.0.0"], more);
    assert.match(await start("upgrade/main.js", ["order", "milk", "0"]).ended(), /version 2\.0\.0/);
    assert.match(await tea.ended(), /version 1\.0\.0[\s\S]*parcel: 'tea from the shelf of tea'/);
    assert.match(await cli("workflows").ended(), /order@1\.0\.0 .* drained/);
    assert.deepEqual(books.charges.map(({ key }) => key).sort(), [
      "charge milk",
      "charge tea",
      "ship milk",
      "ship tea",
    ]);
    await next.kill();
    await books.close();
  });

  it("a campaign stops where its money ends, and goes on with more", async () => {
    const spend = (usd: string): Promise<string> => start("spend-cap/main.js", [usd, "6"]).ended();
    const first = await spend("0.0006");
    // Each reserves a third of it at first; it uses a little less than it reserved.
    assert.match(first, /2 slogans are there, 4 wait for money/);
    assert.match(first, /cellaflow sessions budget raise \S+ --usd 0\.0024/);
    assert.match(await spend("0.003"), /6 slogans; the last one: Ride on, 6 times over\./);
  });

  it("a refund waits for a person, who decides on the page", async () => {
    const port = String(await freePort());
    const asking = start("approvals/main.js", ["A-1", "500"], { PORT: port });
    const url = (await asking.said("decide here: ")).split("decide here: ")[1]?.trim() ?? "";
    await asking.kill();
    const again = start("approvals/main.js", ["A-1", "500"], { PORT: port });
    await again.said(url);
    const authorization = `Basic ${Buffer.from("Ann:demo").toString("base64")}`;
    assert.equal((await fetch(url)).status, 401);
    const page = await (await fetch(url, { headers: { authorization } })).text();
    const digest = /name="digest" value="(\w+)"/.exec(page)?.[1] ?? "";
    const decided = await fetch(url, {
      method: "POST",
      headers: { authorization, origin: `http://127.0.0.1:${port}` },
      body: new URLSearchParams({ digest, decision: "approve" }),
      redirect: "manual",
    });
    assert.equal(decided.status, 303);
    const text = await again.ended();
    assert.match(text, /refunded: 500/);
    assert.match(text, /on behalf of Ann/);
  });
});

/** A port that nobody listens on. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
