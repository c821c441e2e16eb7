/** The first agent in the kill matrix, as the program that people start. */
import type { MatrixProgram, MatrixWorld } from "#sdk/matrix/example.js";

const MODEL = "scripted-1";

/** A page that never changes, with an address of its own for every run. */
const page = (world: MatrixWorld, key: string): string => `${world.modelUrl}/models?run=${encodeURIComponent(key)}`;

export default {
  name: "quickstart",
  program: new URL("./agent.js", import.meta.url),
  args: (world, key) => [page(world, key), MODEL],
  session: (world, key) => ({ workflow: "summarise", key: `${MODEL} on ${page(world, key)}` }),
} satisfies MatrixProgram;
