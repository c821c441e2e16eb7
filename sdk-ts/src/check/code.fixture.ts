/**
 * Versions of a workflow that touches everything a check must not touch. Each effect writes a line to the file that
 * CHECK_EFFECTS names, so that another process's effects are seen, too.
 */
import { appendFileSync } from "node:fs";
import * as z from "zod";
import type { Context } from "../runtime/api.js";
import { workflow } from "../runtime/workflow.js";

const effect = (what: string): string => {
  if (process.env.CHECK_EFFECTS !== undefined) appendFileSync(process.env.CHECK_EFFECTS, `${what}\n`);
  return what;
};

function order(version: string, compatible: string[], run: (ctx: Context, item: string) => Promise<unknown>) {
  return workflow({ name: "order", version, compatible, input: z.string() }, run);
}

async function reserved(ctx: Context, item: string): Promise<void> {
  const shop = await ctx.resource("shop", () => ({ connected: effect("shop") }));
  await ctx.step("reserve", () => effect(`reserve ${shop.connected}`), { input: item });
  await ctx.zone("think", async (zone) => zone.step("thought", () => effect("think")));
}

async function shipped(ctx: Context, item: string): Promise<unknown> {
  await ctx.step("ship", () => effect("ship"), { input: item, effect: "guarded" });
  return ctx.zone("thank", async (zone) => zone.step("write", () => effect("thank")));
}

/** Sleeps until somebody pays. */
export const v1 = order("1.0.0", [], async (ctx, item) => {
  await reserved(ctx, item);
  await ctx.signal("paid", z.boolean());
  return shipped(ctx, item);
});

/** Tells the customer before it ships. */
export const v1_1 = order("1.1.0", ["1.0.0"], async (ctx, item) => {
  await reserved(ctx, item);
  await ctx.signal("paid", z.boolean());
  await ctx.step("tell", () => effect("tell"));
  return shipped(ctx, item);
});

/** Reserves something else. */
export const otherInput = order("2.0.0", [], async (ctx, item) => {
  await reserved(ctx, `two ${item}s`);
  await ctx.signal("paid", z.boolean());
  return shipped(ctx, item);
});

/** Ships without being paid: what sleeps is asked for by nobody. */
export const unpaid = order("3.0.0", ["1.0.0"], async (ctx, item) => {
  await reserved(ctx, item);
  return shipped(ctx, item);
});

/** Looks at what it has acquired. */
export const curious = order("4.0.0", [], async (ctx, item) => {
  const shop = await ctx.resource("shop", () => ({ connected: effect("shop") }));
  if (shop.connected) await ctx.step("reserve", () => effect("reserve"), { input: item });
});

/** Throws once it is where the session sleeps. */
export const broken = order("5.0.0", [], async (ctx, item) => {
  await reserved(ctx, item);
  const paid = ctx.signal("paid", z.boolean());
  void paid.catch(() => {});
  throw new Error("broken");
});
