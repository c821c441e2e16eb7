/**
 * Pays one invoice for two orders at once, or goes on with it: node dist/examples/payments/main.js [INVOICE] [CENTS]
 *
 * Kill it and start it again with the same invoice: nobody is charged twice. If it was killed inside the call, the order
 * that called pauses until somebody says what the bank did; the other waits. `CHARGE_URL` names the bank; default: a
 * counting server of this process.
 */
import { createClient } from "@cellaflow/sdk";
import { payment } from "./workflow.js";

const [invoice = "A-17", cents = "4200"] = process.argv.slice(2);
let close = async (): Promise<void> => {};
if (!process.env.CHARGE_URL) {
  const { startCountingServer } = await import("@cellaflow/sdk/testing");
  const bank = await startCountingServer();
  process.env.CHARGE_URL = bank.url;
  close = async () => {
    console.log(`the bank of this process was asked ${bank.count(`invoice ${invoice}`)} times`);
    await bank.close();
  };
}
const client = createClient();
const orders = ["order 1", "order 2"].map(async (order) => {
  const input = { order, invoice, cents: Number(cents) };
  const result = await client.run(payment, input, { key: `${order} of ${invoice}` });
  if (result.status !== "paused") return console.log(result.status === "completed" ? result.output : result);
  console.log(`${order} paused: ${result.reason}\n  cellaflow steps resolve ${result.sessionId} 'charge#1' …`);
});
await Promise.all(orders);
await close();
