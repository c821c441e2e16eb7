/** The mistake: what a step found is kept beside the ledger, in a variable that dies with the process. */
import { mutant } from "../mutant.js";

let found = 0;

export default mutant("forgets", async (ctx) => {
  found = 0;
  await ctx.step("find", () => {
    found = 7;
  });
  await ctx.step("think", () => "thought");
  ctx.state.set("found", found);
  await ctx.step("keep", () => "kept");
  return found;
});
