/**
 * Sends reminders, or goes on with those of a run that was killed:
 *
 *     node dist/examples/reminders/main.js [ABOUT] [SECONDS] [TIMES]
 *
 * `SMTP_URL` names the mail server; default: one of this process.
 */
import { createClient } from "@cellaflow/sdk";
import { reminders } from "./workflow.js";

const [about = "water the plants", seconds = "10", times = "3"] = process.argv.slice(2);
let close = async (): Promise<void> => {};
if (!process.env.SMTP_URL) {
  const { startSmtp } = await import("@cellaflow/sdk/testing");
  const mail = await startSmtp();
  process.env.SMTP_URL = mail.smtpUrl;
  close = () => mail.close();
}
const observer = {
  stepDelivered: ({ stepKey, replayed }: { stepKey: string; replayed: boolean }) =>
    console.log(`${replayed ? "recorded" : "now"}: ${stepKey}`),
};
const input = { to: "you@example.com", about, times: Number(times), everyMs: Number(seconds) * 1_000 };
console.log(`${times} reminders, ${seconds} s apart; kill this process and start it again as you like`);
// "follow": while the session sleeps nobody holds it; this process waits for its next event and goes on.
const result = await createClient({ observer }).run(reminders, input, { key: about, whileWaiting: "follow" });
console.log(result.status === "completed" ? result.output : result);
await close();
