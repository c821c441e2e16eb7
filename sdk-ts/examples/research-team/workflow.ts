/**
 * A team of agents: one child session per topic, in parallel; a generalist where the specialist does not know a topic;
 * a thorough and a quick reviewer in a race, whose loser is cancelled when the team is done.
 *
 * Children are sessions of their own: any worker may run them, they survive crashes by themselves, and their results come
 * back by value. Killed in the middle, the team does not start a child twice, nor ask a model again.
 */
import { NonRetryableError, StepError, workflow } from "@cellaflow/sdk";
import * as z from "zod";

const Topic = z.object({ topic: z.string(), model: z.string() });
const HOUR_MS = 3_600_000;

export const specialist = workflow(
  { name: "research-specialist", version: "1", input: Topic },
  async (ctx, { topic, model }) => {
    const known = await ctx.step("look up", (asked) => !asked.startsWith("unheard-of"), { input: topic });
    if (!known) throw new NonRetryableError(`nobody has written about ${topic}`, { code: "unknown_topic" });
    const answer = await ctx.llm.generate(model, { messages: `Say in one sentence what matters about ${topic}.` });
    return answer.text;
  },
);

export const generalist = workflow(
  { name: "research-generalist", version: "1", input: Topic },
  async (ctx, { topic, model }) => {
    const answer = await ctx.llm.generate(model, { messages: `Guess in one sentence what ${topic} could be.` });
    return `A guess: ${answer.text}`;
  },
);

export const reviewer = workflow(
  { name: "research-reviewer", version: "1", input: z.object({ reports: z.array(z.string()), thorough: z.boolean() }) },
  async (ctx, { reports, thorough }) => {
    ctx.onCancel((cleanup) =>
      cleanup.step("put away", (count) => `${count} reports back on the shelf`, { input: reports.length }),
    );
    if (thorough) await ctx.sleep("reading", HOUR_MS);
    return ctx.step(
      "review",
      (all) => `${all.length} reports, ${all.filter((one) => one.startsWith("A guess")).length} of them a guess`,
      {
        input: reports,
      },
    );
  },
);

export const researchTeam = workflow(
  {
    name: "research-team",
    version: "1",
    input: z.object({ topics: z.array(z.string()).min(1), model: z.string() }),
  },
  async (ctx, { topics, model }) => {
    const reports = await ctx.map(
      topics,
      async (topic, inner) => {
        try {
          return await inner.spawn(specialist, { topic, model }).result();
        } catch (error) {
          // A child's failure names its session; its cause is what the child itself failed with.
          const cause = error instanceof StepError ? error.cause : undefined;
          if (!(cause instanceof StepError) || cause.code !== "unknown_topic") throw error;
          return inner.spawn(generalist, { topic, model }).result();
        }
      },
      { key: (topic) => topic },
    );
    const reviews = [true, false].map((thorough) => ctx.spawn(reviewer, { reports, thorough }).result());
    return { reports, review: await Promise.race(reviews) };
  },
);

export const team = [researchTeam, specialist, generalist, reviewer] as const;
