/**
 * Reminders: mails with pauses between them that may last minutes or months. While it sleeps no process holds the session;
 * a crash moves no timer and sends no mail twice.
 */
import { workflow } from "@cellaflow/sdk";
import * as z from "zod";
import { arrived, sendMail } from "./mail.js";

const Input = z.object({
  to: z.string(),
  about: z.string(),
  /** How many mails. */
  times: z.number().int(),
  /** Time between them, in ms. */
  everyMs: z.number(),
});

export const reminders = workflow({ name: "reminders", version: "1", input: Input }, async (ctx, input) => {
  const { to, about, times, everyMs } = input;
  for (let round = 1; round <= times; round++) {
    const subject = `Reminder ${round} of ${times}: ${about}`;
    await ctx.step("mail", sendMail, {
      input: { to, subject, text: `${about}.` },
      // A mail cannot be taken back: never started twice while nobody knows whether the first one went out.
      effect: "guarded",
      timeoutMs: 5_000,
      ...(process.env.SMTP_QUERY_URL ? { reconcile: arrived } : { onUnknown: "pause" }),
    });
    ctx.state.set("sent", round);
    // The engine keeps the timer. The worker gives the session back, and any worker may go on with it.
    if (round < times) await ctx.sleep("until the next", everyMs);
  }
  return { sent: times };
});
