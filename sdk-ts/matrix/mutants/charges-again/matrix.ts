/** The mistake: money moves in a step that is not guarded. */
import { charge, mutant } from "../mutant.js";

export default mutant("charges-again", (ctx, { run }) =>
  ctx.step("charge", (key) => charge(key), { input: `invoice of ${run}` }),
);
