/**
 * Orders something, and cancels it as soon as it waits for its parcel:
 * node dist/examples/cancel-order/main.js [ORDER] [--deliver]
 *
 * `--deliver` lets the parcel arrive instead. `CHARGE_URL` names the shop's books; default: a counting server of this
 * process, whose account is shown at the end.
 */
import { parseArgs } from "node:util";
import { createClient } from "@cellaflow/sdk";
import { cancelOrder } from "./workflow.js";

const { values, positionals } = parseArgs({ allowPositionals: true, options: { deliver: { type: "boolean" } } });
const [order = `order-${Date.now()}`] = positionals;
const { startCountingServer } = await import("@cellaflow/sdk/testing");
const books = process.env.CHARGE_URL ? undefined : await startCountingServer();
if (books !== undefined) process.env.CHARGE_URL = books.url;

const client = createClient();
const input = { order, cents: 4_200 };
let result = await client.run(cancelOrder, input, { key: order });
if (result.status === "waiting") {
  if (values.deliver) await client.signal(result.sessionId, "delivered", { tracking: "1Z" }, { id: order });
  else await client.cancel(result.sessionId, { reason: "ordered by mistake" });
  result = await client.run(cancelOrder, input, { key: order });
}
console.log(result);
for (const charge of books?.charges ?? []) console.log(`booked ${charge.key}: ${JSON.stringify(charge.body)}`);
await books?.close();
