/**
 * The approval page over real HTTP on a real engine (W1–W5, M1, M2): its GET shows, only a POST of its own form decides,
 * and what is decided is what was shown.
 */
import assert from "node:assert/strict";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, describe, it } from "node:test";
import * as z from "zod";
import type { Client } from "../client/api.js";
import { createClient } from "../client/client.js";
import { TestEngine } from "../client/engine-kit.js";
import { nodeHandler } from "../client/node-http.js";
import { workflow } from "../runtime/workflow.js";
import { type ApprovalHandlerOptions, approvalHandler, approvalUrl } from "./approvals.js";
import { approvalPage, escaped } from "./page.js";

const NASTY = `<script>alert("x")</script>&'\u202e evil`;

const refund = workflow({ name: "refund", version: "1", input: z.string() }, (ctx, order) =>
  ctx.approval("refund", { toolCall: NASTY, args: { order, cents: 900 } }),
);

describe("the approval page", { skip: process.env.CELLAFLOW_BIN ? false : "CELLAFLOW_BIN names no engine" }, () => {
  let engine: TestEngine;
  let client: Client;
  const servers: Server[] = [];

  before(async () => {
    engine = await TestEngine.start();
    client = createClient({ connection: engine.connection, log: () => {} });
  });
  after(async () => {
    for (const server of servers) server.close();
    await engine[Symbol.asyncDispose]();
  });

  /** Serves the handler; whoever sends the cookie is let in under that name. */
  async function serve(more: Partial<ApprovalHandlerOptions> = {}): Promise<string> {
    const handler = approvalHandler({
      client,
      authorize: (request) => {
        const name = /user=(\w+)/.exec(request.headers.get("cookie") ?? "")?.[1];
        return name === undefined ? undefined : { name };
      },
      ...more,
    });
    const server = createServer(nodeHandler(handler, { log: () => {} }));
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}/approvals`;
  }

  async function asked(key: string): Promise<string> {
    const { sessionId } = await client.run(refund, key, { key });
    return sessionId;
  }

  const get = (url: string, cookie = "user=Ann") => fetch(url, { headers: { cookie } });
  const post = (url: string, fields: Record<string, string>, headers: Record<string, string>) => {
    const body = new URLSearchParams(fields);
    return fetch(url, { method: "POST", body, redirect: "manual", headers: { cookie: "user=Ann", ...headers } });
  };

  /** The hidden fields of a page's form. */
  function fieldsOf(html: string): Record<string, string> {
    const found = html.matchAll(/<input type="hidden" name="(\w+)" value="(\w*)">/g);
    return Object.fromEntries([...found].map(([, name = "", value = ""]) => [name, value]));
  }

  it("W2 W3 W4 shows the call escaped; a POST of its form decides, once", async () => {
    const base = await serve();
    const { origin } = new URL(base);
    const sessionId = await asked("shown");
    const url = approvalUrl(base, { sessionId, stepKey: "refund#1" });
    const page = await get(url);
    assert.equal(page.status, 200);
    const html = await page.text();
    assert.ok(html.includes("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;&amp;&#39;\\u{202e} evil"), html);
    assert.ok(!html.includes("<script"));
    assert.ok(html.includes("&quot;cents&quot;: 900"));
    const policy = page.headers.get("content-security-policy") ?? "";
    assert.match(policy, /default-src 'none'.*form-action 'self'.*frame-ancestors 'none'/);
    assert.equal(page.headers.get("cache-control"), "no-store");
    assert.equal(page.headers.get("referrer-policy"), "same-origin");

    const form = { ...fieldsOf(html), decision: "approve", comment: "  fine " };
    for (const headers of [{ origin: "https://evil.example" }, { origin: "null" }, {}] as Record<string, string>[]) {
      assert.equal((await post(url, form, headers)).status, 403, JSON.stringify(headers)); // W3
    }
    assert.equal((await post(url, form, { "sec-fetch-site": "cross-site" })).status, 403);
    assert.equal((await post(url, { ...form, digest: "00".repeat(32) }, { origin })).status, 409); // W4
    assert.equal((await post(url, { ...form, decision: "maybe" }, { origin })).status, 400);
    assert.equal((await post(url, { ...form, comment: "x".repeat(70_000) }, { origin })).status, 400);
    const put = await fetch(url, { method: "PUT", headers: { cookie: "user=Ann", origin } });
    assert.deepEqual([put.status, put.headers.get("allow")], [405, "GET, HEAD, POST"]);
    assert.equal((await client.get(sessionId)).status, "waiting", "nothing of this decided");

    const decided = await post(url, form, { origin });
    assert.deepEqual([decided.status, decided.headers.get("location")], [303, url]);
    assert.equal((await post(url, form, { origin })).status, 303, "the same form twice is one decision");
    const other = fieldsOf(html);
    const late = await post(url, { ...other, id: "ab".repeat(16), decision: "reject" }, { origin });
    assert.equal(late.status, 409);
    const shown = await (await get(url)).text();
    assert.match(shown, /<strong>approved by [^<]*\(on behalf of Ann\)<\/strong>/);
    assert.ok(!shown.includes("<form"));
    const result = await client.run(refund, "shown", { key: "shown" });
    assert.ok(
      result.status === "completed" && result.output.decision === "approved" && result.output.comment === "fine",
    );
  });

  it("W1 whoever is not let in sees nothing; a login may be asked for", async () => {
    const seen: string[] = [];
    const looking = {
      ...client,
      approval: (...args: Parameters<Client["approval"]>) => {
        seen.push(args[1]);
        return client.approval(...args);
      },
    };
    const base = await serve({ client: looking });
    const sessionId = await asked("secret");
    const url = approvalUrl(base, { sessionId, stepKey: "refund#1" });
    const refused = await get(url, "");
    assert.equal(refused.status, 403);
    assert.ok(!(await refused.text()).includes("secret"));
    assert.deepEqual(seen, []);
    assert.equal((await get(approvalUrl(base, { sessionId, stepKey: "none#1" }))).status, 404);
    assert.equal(
      (await get(approvalUrl(base, { sessionId: "00000000-0000-7000-8000-000000000000", stepKey: "refund#1" }))).status,
      404,
    );
    const login = await serve({ authorize: () => Response.redirect("https://login.example/", 302) });
    const sent = await fetch(approvalUrl(login, { sessionId, stepKey: "refund#1" }), { redirect: "manual" });
    assert.deepEqual([sent.status, sent.headers.get("location")], [302, "https://login.example/"]);
  });

  it("W3 behind a proxy the configured origin counts, not the Host header", async () => {
    const base = await serve({ origin: "https://agents.example" });
    const sessionId = await asked("proxied");
    const url = approvalUrl(base, { sessionId, stepKey: "refund#1" });
    const form = { ...fieldsOf(await (await get(url)).text()), decision: "reject" };
    assert.equal((await post(url, form, { origin: new URL(base).origin })).status, 403);
    const decided = await post(url, form, { origin: "https://agents.example" });
    assert.equal(decided.status, 303);
    assert.ok(decided.headers.get("location")?.startsWith("https://agents.example/approvals?"));
  });
});

it("M1 M2 values are shown whole, and nothing foreign becomes markup", () => {
  assert.equal(escaped(`<a href="x">'&\u200b\u0007`), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;\\u{200b}\\u{7}");
  const approval = {
    sessionId: "s",
    stepKey: "</pre><b>",
    argsDigest: "00",
    name: "n",
    toolCall: "t",
    args: {
      list: Array.from({ length: 300 }, (_, n) => n),
      big: 12n,
      at: new Date(0),
      deep: { a: { b: { c: { d: 1 } } } },
    },
    requestedAt: new Date(0),
    expiresAt: undefined,
    outcome: undefined,
  };
  const html = approvalPage(approval, "01");
  assert.ok(!html.includes("</pre><b>"));
  for (const part of ["299", "12n", "1970-01-01T00:00:00.000Z", "d: 1"]) assert.ok(html.includes(part), part);
});
