/** The examples of what operators do, as processes on a real engine: nondeterminism, search, operations. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { startEngine, type TestEngine } from "@cellaflow/sdk/testing";
import { skip, startCli, startExample } from "./process-kit.js";

describe("examples of what operators do", { skip }, () => {
  let engine: TestEngine;
  before(async () => {
    engine = await startEngine({ flags: ["--lease-ttl-ms", "1500"] });
  });
  after(() => engine.close());

  const run = (main: string, ...args: string[]): Promise<string> => startExample(engine, main, args).ended();
  const cli = (...args: string[]): Promise<string> => startCli(engine, ...args).ended();

  it("a run that differs shows both sides, runs nothing, and goes on when it is accepted", async () => {
    const paused = await run("nondeterminism/main.js", "tea");
    assert.match(paused, /paused: .*"quote#1".*\{"order":"tea","currency":"EUR"\}.*\{"order":"tea","currency":"USD"\}/);
    const [, sessionId = ""] = /sessions accept (\S+)/.exec(paused) ?? [];
    const page = await cli("sessions", "show", sessionId);
    assert.match(page, /recorded .*"currency":"EUR"\}\nasked for .*"currency":"USD"\}/);
    assert.match(await cli("sessions", "list", "--status", "paused"), /nondeterminism/);
    const before = await cli("sessions", "events", sessionId);
    assert.doesNotMatch(before, /ship#1/, "nothing that the ledger does not have was run");
    // Nobody has decided: it stays paused, whoever starts it.
    assert.match(await run("nondeterminism/main.js", "tea"), /paused: /);
    await cli("sessions", "accept", sessionId);
    const done = await run("nondeterminism/main.js", "tea");
    assert.match(done, /quote: '100 EUR', parcel: 'a parcel with tea'/, "the recorded outcome stands");
  });

  it("a fork before the difference asks anew, and leaves the session as it is", async () => {
    assert.match(await run("nondeterminism/main.js", "milk"), /paused: /);
    const forked = await run("nondeterminism/main.js", "milk", "--fork");
    assert.match(forked, /the fork: .*quote: '110 USD', parcel: 'a parcel with milk'/);
    assert.match(await run("nondeterminism/main.js", "milk"), /paused: /);
  });

  it("sessions are found by label, state, version, time and cost, and a list that is read stays as it was", async () => {
    const text = await run("search/main.js", "spring");
    const found = (title: string): string[] => {
      const [, list = ""] = new RegExp(`^${title}[^[]*\\[([^\\]]*)\\]`, "m").exec(text) ?? [];
      return [...list.matchAll(/spring-\d/g)].map(([name]) => name);
    };
    const numbers = (...which: number[]): string[] => which.map((number) => `spring-${number}`);
    assert.deepEqual(found("all:"), numbers(6, 5, 4, 3, 2, 1), text);
    assert.deepEqual(found("gold:"), numbers(6, 4, 2), text);
    assert.deepEqual(found("waiting:"), numbers(6, 5), text);
    assert.deepEqual(found("release 2:"), numbers(6, 5), text);
    assert.deepEqual(found("before 3:"), numbers(2, 1), text);
    assert.deepEqual(found("from "), numbers(6, 5, 4, 3), text);
    assert.deepEqual(found("gold, dear:"), numbers(6, 4), text);
    assert.match(text, /a list of 120: 120 sessions, 120 of them different, 0 that came late/);
    const [, command = ""] = /cellaflow (sessions list .*)/.exec(text) ?? [];
    const { sessions } = JSON.parse(await cli(...command.split(" "), "--json")) as { sessions: { key: string }[] };
    assert.deepEqual(
      sessions.map(({ key }) => key),
      numbers(6, 4),
    );
    const page = JSON.parse(await cli("sessions", "list", "--label", "campaign=spring", "--limit", "4", "--json"));
    const rest = ["sessions", "list", "--label", "campaign=spring", "--page-token", page.next_page_token, "--json"];
    assert.deepEqual(
      [...page.sessions, ...JSON.parse(await cli(...rest)).sessions].map(({ key }) => key),
      numbers(6, 5, 4, 3, 2, 1),
    );
  });

  it("sessions are paused, resumed, retried, cancelled and terminated, one or those of a filter", async () => {
    const text = await run("operations/main.js", "autumn");
    assert.match(text, /would pause 2; north is paused: false/, "a dry run changes nothing");
    assert.match(text, /paused 2, refused 0: paused/);
    assert.match(text, /inland: paused\ninland: paused\nretried 2\n/);
    assert.match(text, /east is published[\s\S]*west is published/);
    const [, had, has] = /north: (\d+) pages when it was paused, (\d+) now/.exec(text) ?? [];
    assert.ok(Number(has) - Number(had) <= 1, `nothing begins while it is paused: ${text}`);
    assert.match(text, /north reads on\nnorth: cancelled, cleaned up\nsouth: cancelled, as it was left/);
    const selected = await cli("sessions", "cancel", "--label", "run=autumn", "--dry-run");
    assert.doesNotMatch(selected, /north|south|east|west/, "sessions that have ended are never selected");
  });
});
