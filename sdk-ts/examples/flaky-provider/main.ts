/**
 * Runs the agent, or goes on with a run: node dist/examples/flaky-provider/main.js [ORDER]
 *
 * It ends paused. Do as it says, then start it again with the same order. `CHARGE_URL` names the bank; default: a counting
 * server of this process.
 */
import { createClient } from "@cellaflow/sdk";
import { flakyProvider } from "./workflow.js";

const [order = "order-1"] = process.argv.slice(2);
let close = async (): Promise<void> => {};
if (!process.env.CHARGE_URL) {
  const { startCountingServer } = await import("@cellaflow/sdk/testing");
  const bank = await startCountingServer();
  process.env.CHARGE_URL = bank.url;
  close = () => bank.close();
}
const result = await createClient().run(flakyProvider, { order }, { key: order });
if (result.status === "paused") console.log(`paused: ${result.reason}\n  cellaflow sessions retry ${result.sessionId}`);
else console.log(result.status === "completed" ? result.output : result);
await close();
