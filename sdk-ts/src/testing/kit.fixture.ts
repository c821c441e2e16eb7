/** Workflows that the tests of the kit run, here and in processes of their own. */
import { setTimeout as delay } from "node:timers/promises";
import { type Context, textOf, workflow } from "@cellaflow/sdk";
import { z } from "zod";

const Input = z.object({ item: z.string() });

/** Three steps; the code of its versions differs on purpose. */
function order(version: string, run: (ctx: Context, item: string) => Promise<unknown>) {
  return workflow({ name: "order", version, input: Input }, (ctx, { item }) => run(ctx, item));
}

const first = async (ctx: Context, item: string): Promise<unknown> => {
  const price = await ctx.step("price", () => 42, { input: item });
  const stock = await ctx.step("stock", () => delay(150, 3), { input: item });
  ctx.state.set("stock", stock);
  return { item, price, left: await ctx.step("take", () => stock - 1, { input: { item, stock } }) };
};

export const orderV1 = order("1", first);

/** Asks the price of something else. */
export const otherInput = order("2", async (ctx, item) => {
  const price = await ctx.step("price", () => 42, { input: `${item}!` });
  return { item, price };
});

/** A check between two steps. */
export const insertedStep = order("3", async (ctx, item) => {
  const price = await ctx.step("price", () => 42, { input: item });
  await ctx.step("check", () => true);
  const stock = await ctx.step("stock", () => 3, { input: item });
  return { item, price, left: await ctx.step("take", () => stock - 1, { input: { item, stock } }) };
});

/** Ends sooner. */
export const droppedStep = order("4", async (ctx, item) => {
  const price = await ctx.step("price", () => 42, { input: item });
  return { item, price };
});

/** Comes to another result. */
export const otherResult = order("5", async (ctx, item) => {
  const result = (await first(ctx, item)) as object;
  return { ...result, currency: "EUR" };
});

/** The same work, written otherwise. */
export const rewritten = order("6", async (ctx, item) => {
  const steps = {
    price: await ctx.step("price", () => 1, { input: item }),
    stock: await ctx.step("stock", () => 1, { input: item }),
  };
  ctx.state.set("stock", steps.stock);
  const left = await ctx.step("take", () => 1, { input: { item, stock: steps.stock } });
  return { item, price: steps.price, left };
});

/** Asks a model in a zone. */
export const chatter = workflow({ name: "chatter", version: "1", input: Input }, async (ctx, { item }) => {
  const answer = await ctx.zone("talk", async (zone) => {
    const stream = zone.llm.stream("scripted-1", { messages: item });
    for await (const _ of stream);
    return stream.final;
  });
  return textOf(answer.message);
});

/** A guarded step that takes for ever. */
export const payment = workflow({ name: "payment", version: "1", input: Input }, (ctx, { item }) =>
  ctx.step("pay", (_item, step) => delay(60_000, "paid", { signal: step.signal }), { input: item, effect: "guarded" }),
);

/** Sleeps a month, then a year. */
export const patient = workflow({ name: "patient", version: "1", input: Input }, async (ctx) => {
  const before = ctx.now();
  await ctx.sleep("a month", 30 * DAY_MS);
  await ctx.step("note", () => "noted");
  await ctx.sleep("a year", 365 * DAY_MS);
  return Math.round((ctx.now() - before) / DAY_MS);
});

const DAY_MS = 24 * 3_600_000;
