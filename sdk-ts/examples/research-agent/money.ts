/**
 * What a run cost, beside what the same calls would have cost with the whole conversation in each.
 *
 * Owns: the sums. All tokens are o200k, as the ledger has them; nothing is asked of a provider. Assumed: every call comes within
 * the lifetime of the provider's cache, and the cache keeps the longest common prefix of two calls in a row.
 */

/** Prices in nano-dollars (1e-9 USD) per token. */
export interface Prices {
  model: string;
  date: string;
  input: number;
  cachedRead: number;
  cacheWrite: number;
  output: number;
}

export const PRICES: Prices = {
  model: "gpt-6-sol",
  date: "2026-11-05",
  input: 2_000,
  cachedRead: 200,
  cacheWrite: 2_500,
  output: 10_000,
};

/** One model call. */
export interface Call {
  /** System option and tools. */
  baseTokens: number;
  /** Messages that were sent. */
  tokens: number;
  /** Of these, the prefix that the call before had, too. */
  sharedTokens: number;
  /** Messages of the whole conversation. */
  rawTokens: number;
  outputTokens: number;
  /** It did nothing but read back what compaction had left out: without compaction it would not have been made. */
  fault: boolean;
}

/** What calls cost in tokens and USD. */
export interface Bill {
  calls: number;
  inputTokens: number;
  /** Without a provider's cache. */
  uncachedUsd: number;
  /** With it. */
  cachedUsd: number;
}

/** The bill of the run, page faults included. */
export function compacted(calls: readonly Call[], prices: Prices): Bill {
  return bill(calls, prices, (call, at) => ({ tokens: call.tokens, hit: at === 0 ? 0 : call.sharedTokens }));
}

/** The bill of the same run with the whole conversation in every call, without the calls that only read something back. */
export function whole(calls: readonly Call[], prices: Prices): Bill {
  const needed = calls.filter(({ fault }) => !fault);
  // A conversation only grows: all that the call before had is the prefix of the next one.
  return bill(needed, prices, (call, at) => ({ tokens: call.rawTokens, hit: needed[at - 1]?.rawTokens ?? 0 }));
}

function bill(
  calls: readonly Call[],
  prices: Prices,
  promptOf: (call: Call, at: number) => { tokens: number; hit: number },
): Bill {
  const sum: Bill = { calls: calls.length, inputTokens: 0, uncachedUsd: 0, cachedUsd: 0 };
  for (const [at, call] of calls.entries()) {
    const { tokens, hit } = promptOf(call, at);
    const input = call.baseTokens + tokens;
    const cached = at === 0 ? 0 : call.baseTokens + hit;
    const output = call.outputTokens * prices.output;
    sum.inputTokens += input;
    sum.uncachedUsd += (input * prices.input + output) / 1e9;
    sum.cachedUsd += (cached * prices.cachedRead + (input - cached) * prices.cacheWrite + output) / 1e9;
  }
  return sum;
}

/** Lines for a person. */
export function table(calls: readonly Call[], prices: Prices): string[] {
  const [without, withIt] = [whole(calls, prices), compacted(calls, prices)];
  const saved = (before: number, after: number): string => `${((1 - after / before) * 100).toFixed(1)} %`;
  const row = (name: string, ...cells: string[]): string => name.padEnd(22) + cells.map((c) => c.padStart(16)).join("");
  const shown = (name: string, one: Bill): string =>
    row(name, count(one.calls), count(one.inputTokens), usd(one.uncachedUsd), usd(one.cachedUsd));
  const sent = calls.reduce((all, { tokens }) => all + tokens, 0);
  const base = calls.reduce((all, { baseTokens }) => all + baseTokens, 0);
  return [
    row("", "calls", "tokens in", "cost uncached", "cost cached"),
    shown("whole conversation", without),
    shown("ctx.context", withIt),
    row(
      "saved",
      "",
      saved(without.inputTokens, withIt.inputTokens),
      saved(without.uncachedUsd, withIt.uncachedUsd),
      saved(without.cachedUsd, withIt.cachedUsd),
    ),
    `largest prompt: ${count(Math.max(...calls.map(({ tokens }) => tokens)))} tokens of messages`,
    `page faults: ${calls.filter(({ fault }) => fault).length}, charged above; system and tools are ${((base * 100) / (base + sent)).toFixed(1)} % of what was sent`,
    `prices of ${prices.model}, ${prices.date}; every call within the lifetime of the provider's cache`,
  ];
}

function count(value: number): string {
  return value.toLocaleString("en-US");
}

function usd(value: number): string {
  return `$${value.toFixed(4)}`;
}
