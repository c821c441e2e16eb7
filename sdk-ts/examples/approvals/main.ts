/**
 * Asks for a refund and serves the page where it is approved:
 *
 *     node dist/examples/approvals/main.js [ORDER] [CENTS]
 *
 * Open the address that it prints; any name with the password "demo" may decide. Kill this process while it waits and
 * start it again: the request is still there, under the same address. `CHARGE_URL` names the bank; default: one of this
 * process. `PORT` of the page: 8080.
 */
import { createServer } from "node:http";
import { type Approver, approvalHandler, approvalUrl, createClient, nodeHandler } from "@cellaflow/sdk";
import { refunds } from "./workflow.js";

const [order = "A-1", cents = "1900"] = process.argv.slice(2);
const port = Number(process.env.PORT ?? 8_080);
const closing: (() => Promise<unknown>)[] = [];
if (!process.env.CHARGE_URL) {
  const { startCountingServer } = await import("@cellaflow/sdk/testing");
  const bank = await startCountingServer();
  process.env.CHARGE_URL = bank.url;
  closing.push(() => bank.close());
}

/** Who asks. A real page looks at the session cookie of its login; this one at HTTP's own password dialogue. */
function authorize(request: Request): Approver | Response {
  const [scheme, credentials = ""] = (request.headers.get("authorization") ?? "").split(" ");
  const [name, password] = Buffer.from(credentials, "base64").toString().split(":");
  if (scheme === "Basic" && name && password === "demo") return { name };
  return new Response("who are you?\n", { status: 401, headers: { "www-authenticate": 'Basic realm="approvals"' } });
}

const client = createClient();
const server = createServer(nodeHandler(approvalHandler({ client, authorize }))).listen(port, "127.0.0.1");
const key = `refund of ${order}`;
const input = { order, cents: Number(cents), expiresIn: 24 * 3_600_000 };
let result = await client.run(refunds, input, { key });
if (result.status === "waiting") {
  for (const approval of await client.approvals(result.sessionId)) {
    console.log(`decide here: ${approvalUrl(`http://127.0.0.1:${port}/`, approval)}`);
  }
  result = await client.run(refunds, input, { key, whileWaiting: "follow" });
}
console.log(result.status === "completed" ? result.output : result);
// The browser still wants to see how it ended.
await new Promise((resolve) => setTimeout(resolve, 2_000));
server.close();
await Promise.all(closing.map((close) => close()));
