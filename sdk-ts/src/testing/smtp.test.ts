import assert from "node:assert/strict";
import { connect } from "node:net";
import { it } from "node:test";
import { createTransport } from "nodemailer";
import { type LocalSmtp, startSmtp } from "./smtp.js";

async function using(
  use: (smtp: LocalSmtp, send: (messageId: string) => Promise<unknown>) => Promise<void>,
): Promise<void> {
  const smtp = await startSmtp();
  const send = (messageId: string): Promise<unknown> => {
    const transport = createTransport(smtp.smtpUrl);
    return transport
      .sendMail({
        from: "agent@example.com",
        to: "you@example.com",
        subject: "Report",
        text: "Grüße\r\n.\r\nend",
        messageId,
      })
      .finally(() => transport.close());
  };
  try {
    await use(smtp, send);
  } finally {
    await smtp.close();
  }
}

async function askedOverHttp(smtp: LocalSmtp, messageId: string): Promise<number> {
  const response = await fetch(`${smtp.url}/delivered?${new URLSearchParams({ message_id: messageId })}`);
  return ((await response.json()) as { count: number }).count;
}

it("counts deliveries by Message-ID and can be asked (M1)", () =>
  using(async (smtp, send) => {
    await send("<a@x>");
    await send("<a@x>");
    await send("<b@x>");
    assert.deepEqual([smtp.count("<a@x>"), smtp.count("<b@x>"), smtp.count("<c@x>")], [2, 1, 0]);
    assert.deepEqual([await askedOverHttp(smtp, "<a@x>"), await askedOverHttp(smtp, "<c@x>")], [2, 0]);
    const count = (await (await fetch(`${smtp.url}/count`)).json()) as object;
    assert.deepEqual(count, { messages: 3, unique: 2 });
    assert.deepEqual(smtp.deliveries[0]?.to, ["you@example.com"]);
    assert.equal(smtp.deliveries[0]?.subject, "Report");
  }));

it("delivers and then resets: the sender cannot know, the server does", () =>
  using(async (smtp, send) => {
    smtp.inject({ resetAfterDelivery: true }, { message_id: "<a@x>" });
    await assert.rejects(send("<a@x>"));
    assert.equal(await askedOverHttp(smtp, "<a@x>"), 1);
    await send("<b@x>");
  }));

it("resets or refuses before delivering", () =>
  using(async (smtp, send) => {
    smtp.inject({ resetBeforeDelivery: true });
    await assert.rejects(send("<a@x>"));
    smtp.inject({ refuse: 451 });
    await assert.rejects(send("<a@x>"), { responseCode: 451 });
    assert.equal(smtp.count("<a@x>"), 0);
  }));

it("a message whose connection breaks before its end counts nowhere (M2)", () =>
  using(async (smtp) => {
    const socket = connect(Number(new URL(smtp.smtpUrl).port), "127.0.0.1");
    const say = (line: string): Promise<string> =>
      new Promise((resolve) => {
        socket.once("data", (answer) => resolve(String(answer)));
        if (line !== "") socket.write(`${line}\r\n`);
      });
    await say("");
    await say("EHLO x");
    await say("MAIL FROM:<a@x>");
    await say("RCPT TO:<b@x>");
    assert.match(await say("DATA"), /^354/);
    socket.write("Message-ID: <half@x>\r\nSubject: half\r\n\r\nnot the end");
    await new Promise((resolve) => setTimeout(resolve, 30));
    const gone = new Promise((resolve) => socket.once("close", resolve));
    socket.destroy();
    await gone;
    await new Promise((resolve) => setTimeout(resolve, 30));
    assert.equal(await askedOverHttp(smtp, "<half@x>"), 0);
    assert.equal(smtp.deliveries.length, 0);
  }));
