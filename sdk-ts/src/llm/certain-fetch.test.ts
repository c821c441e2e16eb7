/**
 * What leaves a process that stood still (F1). A worker was stopped while it connected to its provider, or while it loaded
 * the client; it woke up, sent the request, and paid for an answer that was in the ledger already.
 */
import assert from "node:assert/strict";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { it } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { certainFetch } from "./certain-fetch.js";

interface Got {
  headers: IncomingMessage["headers"];
  body: string;
}

async function withServer(use: (url: string, got: Got[], connected: Promise<void>) => Promise<void>): Promise<void> {
  const got: Got[] = [];
  const server = createServer((request, response) => {
    const one: Got = { headers: request.headers, body: "" };
    request.setEncoding("utf8").on("data", (text: string) => {
      one.body += text;
    });
    request.on("end", () => {
      got.push(one);
      response.end("answered");
    });
  });
  const connected = new Promise<void>((resolve) => server.once("connection", () => resolve()));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`, got, connected);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

const BODY = '{"text":"Grüße"}';
const HOW = { method: "POST", headers: { "content-type": "application/json" }, body: BODY };

it("F1 the body is handed over last, when the session is certain", () =>
  withServer(async (url, got, connected) => {
    let certain = (): void => {};
    const sure = new Promise<void>((resolve) => {
      certain = resolve;
    });
    const answer = certainFetch(() => sure)(url, HOW);
    await connected;
    for (let n = 0; n < 20; n++) await turn();
    assert.equal(got.length, 0);
    certain();
    assert.equal(await (await answer).text(), "answered");
    assert.equal(got[0]?.body, BODY);
    // As any other request: providers need not take a body of unknown length.
    assert.equal(got[0]?.headers["content-length"], String(Buffer.byteLength(BODY)));
    assert.equal(got[0]?.headers["transfer-encoding"], undefined);
  }));

it("F1 a session that is not held any more sends nothing, and its signal ends the wait", () =>
  withServer(async (url, got, connected) => {
    const fenced = new AbortController();
    const answer = certainFetch(() => new Promise(() => {}))(url, { ...HOW, signal: fenced.signal });
    await connected;
    fenced.abort(new Error("fenced"));
    await assert.rejects(answer, /fenced/);
    assert.equal(got.length, 0);
  }));

it("F1 a session lost while the request is on its way leaves the request unfinished", () =>
  withServer(async (url, got, connected) => {
    const fenced = new AbortController();
    let looks = 0;
    const sure = (): Promise<void> => (++looks === 1 ? Promise.resolve() : new Promise(() => {}));
    const answer = certainFetch(sure)(url, { ...HOW, signal: fenced.signal });
    await connected;
    for (let n = 0; n < 20; n++) await turn();
    fenced.abort(new Error("fenced"));
    await assert.rejects(answer, /fenced/);
    assert.deepEqual([looks, got.length], [2, 0]);
  }));
