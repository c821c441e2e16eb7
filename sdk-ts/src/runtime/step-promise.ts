/**
 * The promise of a request: it knows whether anybody looks at it, and it never becomes an unhandled rejection.
 *
 * Owns: that. Never: settles itself.
 *
 * Invariants:
 * - P1 every promise has a rejection handler from the start: an abandoned run leaves nothing unhandled.
 * - P2 `await`, `then`, `catch`, `finally` and the combinators mark it as observed. (It is a subclass, so that `await`
 *   calls `then` instead of looking inside.)
 */

/** The promises of a run that nobody has looked at yet. */
export type Unobserved = Map<StepPromise<unknown>, string>;

/** A promise that notes when it is looked at. */
export class StepPromise<T> extends Promise<T> {
  private unobserved: Unobserved | undefined;

  static override get [Symbol.species](): PromiseConstructor {
    return Promise;
  }

  /** Returns a promise that settles like another one. */
  static from<T>(made: Promise<T>): StepPromise<T> {
    return new StepPromise<T>((resolve, reject) => {
      made.then(resolve, reject);
    });
  }

  /** Starts watching: until it is looked at, `unobserved` lists it under `label`. */
  watch(unobserved: Unobserved, label: string): this {
    Promise.prototype.then.call(this, undefined, ignore);
    this.unobserved = unobserved;
    unobserved.set(this, label);
    return this;
  }

  // biome-ignore lint/suspicious/noThenProperty: overriding it is how the promise learns that somebody looks.
  override then<A = T, B = never>(
    fulfilled?: ((value: T) => A | PromiseLike<A>) | null,
    rejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    if (this.unobserved !== undefined) {
      this.unobserved.delete(this);
      this.unobserved = undefined;
    }
    return super.then(fulfilled, rejected);
  }
}

/** A promise with its two ends. */
export interface Deferred<T> {
  promise: StepPromise<T>;
  resolve(value: T): void;
  reject(reason: unknown): void;
}

/** Makes a promise with its two ends. */
export function deferred<T>(): Deferred<T> {
  let resolve!: (value: T) => void;
  let reject!: (reason: unknown) => void;
  const promise = new StepPromise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}

function ignore(): void {}
