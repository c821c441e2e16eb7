/**
 * The report's way out: one e-mail over SMTP.
 *
 * A mail server does not recognise a second delivery, so this is a guarded step. After a crash in the middle only the
 * server knows whether the mail went out. Ours can be asked (`SMTP_QUERY_URL`), most cannot: then the session pauses and
 * a person decides (`cellaflow steps resolve`).
 *
 * Environment: `SMTP_URL`, `SMTP_QUERY_URL`, `MAIL_FROM`.
 */
import { type Finding, NotApplied, type StepHandle } from "@cellaflow/sdk";
import { createTransport } from "nodemailer";

/** How long connecting, the greeting, and silence may take, in ms: all of it fits into one guarded attempt. */
const CONNECT_MS_MAX = 5_000;
const SILENCE_MS_MAX = 10_000;

/** What is mailed. */
export interface Report {
  to: string;
  subject: string;
  text: string;
  patch: string;
}

/** What became of it. */
export interface Sent {
  messageId: string;
}

/** Sends the report. Its Message-ID is made of the step's key, the same for every attempt. */
export async function sendReport(report: Report, step: StepHandle): Promise<Sent> {
  const messageId = messageIdOf(step.idempotencyKey);
  const transport = createTransport({
    url: process.env.SMTP_URL ?? "smtp://127.0.0.1:25",
    connectionTimeout: CONNECT_MS_MAX,
    greetingTimeout: CONNECT_MS_MAX,
    socketTimeout: SILENCE_MS_MAX,
  });
  try {
    await transport.sendMail({
      messageId,
      // At the end of the attempt's time it stops: nothing may still be on its way when the server is asked.
      signal: step.signal,
      from: process.env.MAIL_FROM ?? "code-audit@cellaflow.local",
      to: report.to,
      subject: report.subject,
      text: `${report.text}\n`,
      attachments: [{ filename: "fix.patch", content: report.patch }],
    });
    return { messageId };
  } catch (error) {
    throw isRefusal(error) ? new NotApplied("the mail server did not take the report", { cause: error }) : error;
  } finally {
    transport.close();
  }
}

/** What happens when nobody knows whether the report went out. */
export function delivery(): { reconcile: typeof reconcileReport } | { onUnknown: "pause" } {
  return process.env.SMTP_QUERY_URL ? { reconcile: reconcileReport } : { onUnknown: "pause" };
}

/** Asks the mail server whether it delivered the report. */
async function reconcileReport(_report: Report, step: StepHandle): Promise<Finding<Sent>> {
  const messageId = messageIdOf(step.idempotencyKey);
  const url = new URL("/delivered", process.env.SMTP_QUERY_URL);
  url.searchParams.set("message_id", messageId);
  const answer = await fetch(url, { signal: step.signal });
  if (!answer.ok) return "unknown";
  const { count } = (await answer.json()) as { count: number };
  return count > 0 ? { applied: { messageId } } : "notApplied";
}

function messageIdOf(idempotencyKey: string): string {
  return `<${idempotencyKey}@cellaflow.local>`;
}

/**
 * The connection was never made, or the server said no: the mail is certainly not on its way. (The client's `command`
 * says "CONN" of connections, too, that break after the whole mail was sent.)
 */
function isRefusal(error: unknown): boolean {
  const { code, syscall, responseCode } = error as { code?: string; syscall?: string; responseCode?: number };
  return syscall === "connect" || code === "EDNS" || code === "EAUTH" || (responseCode ?? 0) >= 400;
}
