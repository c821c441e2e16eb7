/** Small arithmetic and number formats of the demo's output. */

/** The value below or at which `p` percent of the samples lie (nearest rank); 0 without samples. */
export function percentile(samples: readonly number[], p: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  const rank = Math.ceil((p / 100) * sorted.length);
  return sorted[Math.max(0, rank - 1)] ?? 0;
}

/** The largest sample; 0 without samples. */
export function largest(samples: readonly number[]): number {
  return samples.reduce((max, sample) => Math.max(max, sample), 0);
}

/** Rounds to so many decimals. */
export function rounded(value: number, decimals: number): number {
  return Number(value.toFixed(decimals));
}

/** A whole number with separators: 12,345. */
export function grouped(value: number): string {
  return value.toLocaleString("en-US", { maximumFractionDigits: 0 });
}

/** Nano-dollars as dollars: $0.001234; "unknown" when no price was known. */
export function dollars(nanos: number | undefined): string {
  return nanos === undefined ? "unknown" : `$${(nanos / 1e9).toFixed(6)}`;
}

/** Milliseconds as seconds: 2.31 s. */
export function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(2)} s`;
}
