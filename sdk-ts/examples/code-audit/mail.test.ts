/** The report's way out, against a real SMTP server. */
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, it } from "node:test";
import { NotApplied, type StepHandle } from "@cellaflow/sdk";
import { type LocalSmtp, startSmtp } from "@cellaflow/sdk/testing";
import { delivery, sendReport } from "./mail.js";

const REPORT = { to: "team@example.com", subject: "Audit", text: "All is well.", patch: "--- a\n+++ b\n" };
let server: LocalSmtp;
let count = 0;
let step: StepHandle;

before(async () => {
  server = await startSmtp();
  process.env.SMTP_URL = server.smtpUrl;
  process.env.SMTP_QUERY_URL = server.url;
});
after(() => server.close());
beforeEach(() => {
  step = { idempotencyKey: `report-${++count}`, signal: new AbortController().signal } as StepHandle;
});

const messageId = () => `<${step.idempotencyKey}@cellaflow.local>`;
const reconcile = () => {
  const options = delivery();
  assert.ok("reconcile" in options);
  return options.reconcile(REPORT, step);
};

describe("the report", () => {
  it("is delivered once, under a Message-ID made of the step's key", async () => {
    assert.deepEqual(await sendReport(REPORT, step), { messageId: messageId() });
    assert.equal(server.count(messageId()), 1);
    assert.deepEqual(await reconcile(), { applied: { messageId: messageId() } });
  });

  it("is certainly not applied when the server refused it or could not be reached", async () => {
    server.inject({ refuse: 451 }, { message_id: messageId() });
    await assert.rejects(sendReport(REPORT, step), NotApplied);
    const { SMTP_URL } = process.env;
    process.env.SMTP_URL = "smtp://127.0.0.1:1";
    await assert.rejects(sendReport(REPORT, step), NotApplied);
    process.env.SMTP_URL = SMTP_URL;
    assert.equal(await reconcile(), "notApplied");
  });

  it("is unknown when the connection broke, until the server is asked", async () => {
    server.inject({ resetAfterDelivery: true }, { message_id: messageId() });
    await assert.rejects(sendReport(REPORT, step), (error) => !(error instanceof NotApplied));
    assert.deepEqual(await reconcile(), { applied: { messageId: messageId() } });
  });

  it("stops at the end of the attempt's time", async () => {
    server.inject({ delayReplyMs: 5_000 }, { message_id: messageId() });
    const started = performance.now();
    const slow = { ...step, signal: AbortSignal.timeout(100) };
    await assert.rejects(sendReport(REPORT, slow), (error) => !(error instanceof NotApplied));
    assert.ok(performance.now() - started < 2_000);
  });

  it("is left to a person when the server cannot be asked", () => {
    const { SMTP_QUERY_URL } = process.env;
    delete process.env.SMTP_QUERY_URL;
    assert.deepEqual(delivery(), { onUnknown: "pause" });
    process.env.SMTP_QUERY_URL = SMTP_QUERY_URL;
  });
});
