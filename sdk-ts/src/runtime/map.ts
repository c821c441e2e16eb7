/**
 * Working on many items, a bounded number at a time.
 *
 * Owns: that. Never: journals.
 *
 * Invariant P1: items start in order; after a failure no further item starts, and the first failure is the result's.
 */

/** Calls `fn` for every item, at most `concurrency` at a time; resolves with the results in the items' order. */
export async function mapConcurrently<T, R>(
  items: readonly T[],
  concurrency: number | undefined,
  fn: (item: T, index: number) => Promise<R>,
): Promise<R[]> {
  const results: R[] = new Array<R>(items.length);
  const lanes = Math.min(items.length, Math.max(1, Math.floor(concurrency ?? items.length)));
  let next = 0;
  let failed = false;
  const work = async (): Promise<void> => {
    while (!failed && next < items.length) {
      const index = next++;
      try {
        results[index] = await fn(items[index] as T, index);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: lanes }, work));
  return results;
}
