/**
 * Finds the examples that take part: every `examples/<name>/matrix.js`.
 */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import type { MatrixExample, MatrixProgram } from "./example.js";

/** An example of either kind. */
export type AnyExample = MatrixExample | MatrixProgram;

/** An example and the module it comes from. */
export interface FoundExample {
  example: AnyExample;
  module: string;
}

const EXAMPLES = fileURLToPath(new URL("../examples", import.meta.url));

/** The examples of one module. */
export async function examplesIn(module: string): Promise<readonly AnyExample[]> {
  const { default: found } = (await import(pathToFileURL(module).href)) as {
    default?: AnyExample | readonly AnyExample[];
  };
  if (found === undefined) throw new Error(`${module} has no default export; export a MatrixExample from it`);
  return Array.isArray(found) ? (found as readonly AnyExample[]) : [found as AnyExample];
}

/** Every example, in the order of their names. */
export async function allExamples(folder = EXAMPLES): Promise<FoundExample[]> {
  const found: FoundExample[] = [];
  for (const name of readdirSync(folder).sort()) {
    const module = join(folder, name, "matrix.js");
    if (!existsSync(module)) continue;
    for (const example of await examplesIn(module)) found.push({ example, module });
  }
  return found;
}
