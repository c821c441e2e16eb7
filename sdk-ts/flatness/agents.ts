/**
 * The two agents whose steps must not get slower: one of many turns, one that continues itself.
 *
 * Owns: their code, and noting how long a turn or a step took beside what its own functions took (the model, the
 * tool): that is the runtime's part. Never: judges.
 */
import { performance } from "node:perf_hooks";
import { type DeliveredStep, tool, workflow } from "@cellaflow/sdk";
import { z } from "zod";

/** One turn of an agent, or one round of a poller. */
export interface Lap {
  /** From 1. */
  n: number;
  /** What the runtime took of it, in ms: all but the functions of model calls and steps. */
  ms: number;
  /** All of it, in ms. */
  wallMs: number;
}

/** Collects laps of this process; a lap with a replayed outcome does not count. */
export class Laps {
  private ownMs = 0;
  private replayed = false;

  constructor(private readonly told: (lap: Lap) => void) {}

  /** For `observer.stepDelivered`. */
  readonly delivered = (step: DeliveredStep): void => {
    this.ownMs += step.ownMs;
    this.replayed ||= step.replayed;
  };

  async time<T>(n: number, run: () => Promise<T>): Promise<T> {
    this.ownMs = 0;
    this.replayed = false;
    const started = performance.now();
    const result = await run();
    const wallMs = performance.now() - started;
    if (!this.replayed) this.told({ n, ms: wallMs - this.ownMs, wallMs });
    return result;
  }
}

/** About what a tool says: a page of text that is another one in every turn. */
const TOOL_TEXT_CHARS = 800;

const look = tool({
  description: "Looks at a page.",
  parameters: z.object({ page: z.number() }),
  execute: ({ page }) => `Page ${page}: ${"what is written there ".repeat(TOOL_TEXT_CHARS / 22)}`,
});

/** An agent that asks the model, runs the tool it asks for, and says what it saw, again and again. */
export const turnsAgent = (laps: Laps) =>
  workflow({ name: "flat-turns", version: "1", input: z.object({ turns: z.number() }) }, async (ctx, { turns }) => {
    ctx.messages.push({ role: "user", content: `Look at ${turns} pages, one after the other.` });
    for (let turn = 1; turn <= turns; turn++) {
      await laps.time(turn, async () => {
        const answer = await ctx.llm.generate("scripted-1", { tools: { look } });
        ctx.messages.push(answer.message, ...(await ctx.runTools(answer.toolCalls, { look })));
        ctx.state.set("turn", turn);
      });
    }
    return { turns, messages: ctx.messages.length };
  });

/** How many of the last polls a poller keeps. */
const SEEN_MAX = 20;

/** An agent that looks once and continues itself, with what it saw last in its state. */
export const poller = (laps: Laps) =>
  workflow(
    { name: "flat-poller", version: "1", input: z.object({ round: z.number(), rounds: z.number() }) },
    async (ctx, { round, rounds }) => {
      const found = await laps.time(round, () => ctx.step("poll", () => `news of round ${round}`));
      const seen = [...(ctx.state.get<string[]>("seen") ?? []), found].slice(-SEEN_MAX);
      ctx.state.set("seen", seen);
      if (round >= rounds) return { rounds: round, seen: seen.length };
      return ctx.continueAs({ round: round + 1, rounds });
    },
  );
