/** Medians, percentiles and ratios; the only place where figures are made of figures. */

/** The value below which so much of a sample lies (nearest rank). @throws RangeError for an empty sample */
export function percentile(sample: Iterable<number>, share: number): number {
  const sorted = Float64Array.from(sample).sort();
  const value = sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))];
  if (value === undefined) throw new RangeError("there is nothing to take a percentile of");
  return value;
}

/** The middle of a sample. @throws RangeError for an empty sample */
export function median(sample: readonly number[]): number {
  const sorted = [...sample].sort((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)];
  const lower = sorted[Math.floor((sorted.length - 1) / 2)];
  if (upper === undefined || lower === undefined) throw new RangeError("there is nothing to take a median of");
  return (upper + lower) / 2;
}

/** Takes the median of each figure over repetitions that may lack some. */
export function medians<K extends string>(
  repetitions: readonly Partial<Record<K, number>>[],
): Partial<Record<K, number>> {
  const names = new Set(repetitions.flatMap((one) => Object.keys(one) as K[]));
  const result: Partial<Record<K, number>> = {};
  for (const name of names) {
    const values = repetitions.map((one) => one[name]).filter((value) => value !== undefined);
    if (values.length > 0) result[name] = rounded(median(values));
  }
  return result;
}

/** Rounds to four significant digits, or to whole numbers above 1,000. */
export function rounded(value: number): number {
  return Math.abs(value) >= 1_000 ? Math.round(value) : Number(value.toPrecision(4));
}
