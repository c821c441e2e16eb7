/**
 * Which code runs a session of which version.
 *
 * Owns: that choice. Never: judges whether the code fits; the replay does.
 *
 * Invariants:
 * - V1 a session stays pinned to the version it started on, whatever code runs it.
 * - V2 code of exactly that version wins over code that is compatible with it.
 * - V3 a version has one code in a worker: two definitions that claim it are a mistake of the program.
 */
import { MisuseError } from "../errors.js";
import type { Workflow } from "./workflow.js";

/** Says whether a definition's code may run sessions of a version. */
export function serves(definition: Workflow, version: string): boolean {
  return definition.version === version || definition.compatible.includes(version);
}

/** What is said of a workflow to the engine. */
export interface ServedWorkflow {
  name: string;
  /** Every version that is served. */
  versions: readonly string[];
  /** The code that serves them. */
  definitions: readonly { version: string; compatible: readonly string[] }[];
}

/** The definitions of a worker, by the sessions they run. */
export class Definitions {
  private readonly byName = new Map<string, Map<string, Workflow>>();
  private readonly all: readonly Workflow[];

  /** @throws MisuseError `invalid_worker` (V3) */
  constructor(definitions: readonly Workflow[]) {
    this.all = definitions;
    for (const definition of definitions) this.claim(definition, definition.version);
    for (const definition of definitions) {
      for (const version of definition.compatible) {
        // V2
        if (this.find(definition.name, version)?.version !== version) this.claim(definition, version);
      }
    }
  }

  /** The definition that runs sessions of a version; undefined: none does. */
  find(name: string, version: string): Workflow | undefined {
    return this.byName.get(name)?.get(version);
  }

  /** What the worker serves, by workflow. */
  get served(): readonly ServedWorkflow[] {
    return [...this.byName].map(([name, versions]) => ({
      name,
      versions: [...versions.keys()],
      definitions: this.all
        .filter((one) => one.name === name)
        .map(({ version, compatible }) => ({ version, compatible })),
    }));
  }

  private claim(definition: Workflow, version: string): void {
    const { name } = definition;
    const versions = this.byName.get(name) ?? new Map<string, Workflow>();
    const other = versions.get(version);
    if (other !== undefined) {
      const problem =
        other.version === definition.version
          ? `workflow "${name}" is there twice in version "${version}"`
          : `versions "${other.version}" and "${definition.version}" of workflow "${name}" both claim "${version}"`;
      throw new MisuseError("invalid_worker", problem, "let one definition serve each version");
    }
    this.byName.set(name, versions.set(version, definition));
  }
}
