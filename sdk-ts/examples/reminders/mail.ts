/**
 * One e-mail over SMTP (`SMTP_URL`). Its Message-ID is made of the step's key, so that a server which can be asked
 * (`SMTP_QUERY_URL`) knows whether it arrived.
 */
import { type Finding, NotApplied, type StepHandle } from "@cellaflow/sdk";
import { createTransport } from "nodemailer";

export interface Mail {
  to: string;
  subject: string;
  text: string;
}

/** Sends it. */
export async function sendMail(mail: Mail, step: StepHandle): Promise<string> {
  const messageId = messageIdOf(step);
  const url = process.env.SMTP_URL ?? "smtp://127.0.0.1:25";
  const transport = createTransport({ url, connectionTimeout: 2_000, greetingTimeout: 2_000, socketTimeout: 2_000 });
  try {
    await transport.sendMail({ ...mail, messageId, signal: step.signal, from: "reminders@cellaflow.local" });
    return messageId;
  } catch (error) {
    const { syscall, responseCode = 0 } = error as { syscall?: string; responseCode?: number };
    // Nobody listened, or the server said no: the mail is certainly not on its way.
    if (syscall === "connect" || responseCode >= 400) throw new NotApplied("the mail was not taken", { cause: error });
    throw error;
  } finally {
    transport.close();
  }
}

/** Asks the server whether an attempt whose outcome is unknown arrived. */
export async function arrived(_mail: Mail, step: StepHandle): Promise<Finding<string>> {
  const messageId = messageIdOf(step);
  const url = new URL("/delivered", process.env.SMTP_QUERY_URL);
  url.searchParams.set("message_id", messageId);
  const answer = await fetch(url, { signal: step.signal });
  if (!answer.ok) return "unknown";
  const { count } = (await answer.json()) as { count: number };
  return count > 0 ? { applied: messageId } : "notApplied";
}

function messageIdOf({ idempotencyKey }: StepHandle): string {
  return `<${idempotencyKey.replace(/[^\w-]/g, ".")}@cellaflow.local>`;
}
