/**
 * What lives on one machine and is not journaled: a clone, a browser, a connection (`ctx.resource`).
 *
 * Owns: one instance per name and run. Never: stores anything.
 *
 * Invariant Q1: what was acquired is disposed once, when the run is over for this process, in reverse order.
 */
import type { Logger } from "./observer.js";

/** The resources of one run. */
export class Resources {
  private readonly acquired = new Map<string, Promise<unknown>>();
  private readonly controller = new AbortController();
  /** Acquisitions under way: while there are any, a replay does not count as stalled. */
  pending = 0;

  constructor(
    private readonly log: Logger,
    private readonly standIn?: (name: string) => unknown,
  ) {}

  /** Returns the instance under this name, acquiring it at the first call. */
  async get<T>(name: string, acquire: (signal: AbortSignal) => T | PromiseLike<T>): Promise<T> {
    if (this.standIn !== undefined) return this.standIn(name) as T;
    const known = this.acquired.get(name);
    if (known !== undefined) return known as Promise<T>;
    const made = this.acquire(acquire);
    this.acquired.set(name, made);
    // What failed may be tried again by the workflow.
    made.catch(() => this.acquired.delete(name));
    return made;
  }

  /** Disposes of everything; errors are logged. */
  async dispose(): Promise<void> {
    this.controller.abort(new Error("the run is over"));
    for (const [name, made] of [...this.acquired].reverse()) {
      try {
        await disposeOf(await made);
      } catch (error) {
        this.log("warn", "disposing of a resource failed", { resource: name, error: String(error) });
      }
    }
    this.acquired.clear();
  }

  private async acquire<T>(acquire: (signal: AbortSignal) => T | PromiseLike<T>): Promise<T> {
    this.pending += 1;
    try {
      return await acquire(this.controller.signal);
    } finally {
      this.pending -= 1;
    }
  }
}

async function disposeOf(resource: unknown): Promise<void> {
  if (typeof resource !== "object" || resource === null) return;
  const disposable = resource as Partial<Disposable & AsyncDisposable>;
  if (Symbol.asyncDispose in disposable) await disposable[Symbol.asyncDispose]?.();
  else disposable[Symbol.dispose]?.();
}
