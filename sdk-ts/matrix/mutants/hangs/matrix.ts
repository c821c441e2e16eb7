/** The mistake: a variable says that work has begun, and a process that did not set it waits for ever. */
import { setTimeout as delay } from "node:timers/promises";
import { mutant } from "../mutant.js";

let begun = false;

export default mutant("hangs", async (ctx) => {
  await ctx.step("begin", () => {
    begun = true;
  });
  if (!begun) await new Promise(() => undefined);
  await ctx.step("work", () => delay(200, "done"));
});
