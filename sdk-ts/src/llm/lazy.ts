/**
 * A promise made of another one, but only once somebody looks at it.
 *
 * The runtime notices requests whose promise nobody looks at (`runtime/step-promise.ts`). A plain `then` inside this
 * folder would be such a look, and hide the user's mistake.
 */
export class LazyPromise<T> extends Promise<T> {
  private start: (() => void) | undefined;

  static override get [Symbol.species](): PromiseConstructor {
    return Promise;
  }

  /** @param make called at the first look */
  static of<T>(make: () => Promise<T>): LazyPromise<T> {
    let start!: () => void;
    const lazy = new LazyPromise<T>((resolve, reject) => {
      start = () => void make().then(resolve, reject);
    });
    lazy.start = start;
    return lazy;
  }

  // biome-ignore lint/suspicious/noThenProperty: overriding it is how the promise learns that somebody looks.
  override then<A = T, B = never>(
    fulfilled?: ((value: T) => A | PromiseLike<A>) | null,
    rejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    const { start } = this;
    this.start = undefined;
    start?.();
    return super.then(fulfilled, rejected);
  }
}

/** Takes a promise's value without looking at it. */
export function tap<T>(promise: Promise<T>, take: (value: T) => void): void {
  Promise.prototype.then.call(
    promise,
    (value: unknown) => take(value as T),
    () => undefined,
  );
}
