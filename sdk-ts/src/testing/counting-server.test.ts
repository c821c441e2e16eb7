import assert from "node:assert/strict";
import { it } from "node:test";
import { type CountingServer, type CountingServerOptions, startCountingServer } from "./counting-server.js";

async function using(
  options: CountingServerOptions,
  use: (server: CountingServer, charge: (key: string) => Promise<Response>) => Promise<void>,
): Promise<void> {
  const server = await startCountingServer(options);
  const charge = (key: string): Promise<Response> =>
    fetch(`${server.url}/charge`, { method: "POST", headers: { "idempotency-key": key }, body: "{}" });
  try {
    await use(server, charge);
  } finally {
    await server.close();
  }
}

it("counts every charge per key", () =>
  using({}, async (server, charge) => {
    for (const key of ["a", "a", "b"]) assert.equal((await charge(key)).status, 200);
    assert.deepEqual([server.count("a"), server.count("b"), server.count("c")], [2, 1, 0]);
    const asked = (await (await fetch(`${server.url}/count?key=a`)).json()) as object;
    assert.deepEqual(asked, { key: "a", count: 2 });
    const all = (await (await fetch(`${server.url}/counts`)).json()) as object;
    assert.deepEqual(all, { total: 3, keys: { a: 2, b: 1 } });
  }));

it("N1: charges, then resets the connection", () =>
  using({}, async (server, charge) => {
    server.inject({ resetAfterCharge: true }, { key: "a" });
    await assert.rejects(charge("a"));
    assert.equal(server.count("a"), 1);
  }));

it("resets or refuses without charging", () =>
  using({}, async (server, charge) => {
    server.inject({ resetBeforeCharge: true });
    await assert.rejects(charge("a"));
    server.inject({ status: 503 });
    assert.equal((await charge("a")).status, 503);
    assert.equal(server.count("a"), 0);
  }));

it("honours a key when told to", () =>
  using({ honourKey: true }, async (server, charge) => {
    const answers = [await (await charge("a")).json(), await (await charge("a")).json()];
    assert.deepEqual(answers[0], answers[1]);
    assert.equal(server.count("a"), 1);
  }));
