/**
 * An endless agent: looks at a feed, keeps what is new in its state, tells a model about it, and continues itself.
 *
 * Each round is a session of its own under the same key, so that its history stays as short as one round however long the
 * agent lives; `ctx.state` is carried over, and the conversation in a shortened form.
 */
import { workflow } from "@cellaflow/sdk";
import * as z from "zod";

/** How much of the conversation the next round begins with. */
const MESSAGES_KEPT = 4;
const SEEN_MAX = 50;

const Input = z.object({
  /** What is looked at. */
  feed: z.string(),
  model: z.string(),
  pauseMs: z.number().default(60_000),
  /** Ends after so many rounds; 0: never. */
  rounds: z.number().default(0),
  round: z.number().default(1),
});

/** What the poller is started with. */
export type PollerInput = z.input<typeof Input>;

/** What a feed shows in a round: two entries, one of which was there before. */
function look(feed: string, round: number): string[] {
  return [`${feed} news ${round - 1}`, `${feed} news ${round}`];
}

export const poller = workflow({ name: "poller", version: "1", input: Input }, async (ctx, input) => {
  const { feed, model, pauseMs, rounds, round } = input;
  const seen = ctx.state.get<string[]>("seen") ?? [];
  const shown = await ctx.step("look", (asked) => look(asked.feed, asked.round), { input: { feed, round } });
  const fresh = shown.filter((entry) => !seen.includes(entry));
  if (fresh.length > 0) {
    ctx.messages.push({ role: "user", content: `New: ${fresh.join(", ")}. Anything to do?` });
    const answer = await ctx.llm.generate(model);
    ctx.messages.push(answer.message);
  }
  ctx.state.set("seen", [...seen, ...fresh].slice(-SEEN_MAX));
  ctx.state.set("rounds", round);
  if (rounds > 0 && round >= rounds) return { rounds: round, seen: ctx.state.get<string[]>("seen") };

  await ctx.sleep("pause", pauseMs);
  return ctx.continueAs({ ...input, round: round + 1 }, { messages: ctx.messages.list.slice(-MESSAGES_KEPT) });
});
