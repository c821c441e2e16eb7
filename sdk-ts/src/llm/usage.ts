/**
 * Tokens and cost of model calls.
 *
 * Owns: prices, the estimate for providers that say nothing, the stored form of usage. Never: asks a provider.
 *
 * Invariants:
 * - U1 money is whole nano-dollars; an unknown model has no cost rather than none to pay.
 * - U2 tokens that were counted here are marked as estimated.
 */
import { readFileSync } from "node:fs";
import { create } from "@bufbuild/protobuf";
import { MisuseError } from "../errors.js";
import { type Usage, UsageSchema } from "../gen/cellaflow/v1/common_pb.js";
import shippedPrices from "./prices.json" with { type: "json" };
import type { LlmUsage, TokenCounts } from "./types.js";

/** UTF-8 bytes that count as one token where the provider does not say: right within a third for prose and code. */
export const BYTES_PER_TOKEN = 4;

/** Prices of a model in nano-dollars (1e-9 USD) per token, whole numbers. */
export interface TokenPrices {
  input: number;
  cachedRead: number;
  cacheWrite: number;
  output: number;
}

/** Prices of a model. */
export interface ModelPrices extends TokenPrices {
  /** Other prices for requests with more input tokens (cached ones included) than this. */
  long?: TokenPrices & { overTokens: number };
}

/** A price list. */
export interface PriceList {
  /** When the prices were looked up, "2026-11-05". */
  date: string;
  /** By `provider/model` or by model alone; the first wins. */
  models: Readonly<Record<string, ModelPrices>>;
}

let prices: PriceList | undefined;

/** Replaces the price list of this process; a text is the path of a JSON file. Default: `CELLAFLOW_PRICES`, else ours. */
export function usePrices(list: PriceList | string): void {
  prices = typeof list === "string" ? readPrices(list) : checked(list, "the price list");
}

/** Returns the cost of tokens in nano-dollars; undefined: the model is in no price list. */
export function costOf(provider: string, model: string, tokens: Required<TokenCounts>): bigint | undefined {
  const found = pricesOf(currentPrices(), provider, model);
  if (found === undefined) return undefined;
  const input = tokens.inputTokens + tokens.cachedReadTokens + tokens.cacheWriteTokens;
  const price: TokenPrices = found.long !== undefined && input > found.long.overTokens ? found.long : found;
  return (
    BigInt(tokens.inputTokens) * BigInt(price.input) +
    BigInt(tokens.cachedReadTokens) * BigInt(price.cachedRead) +
    BigInt(tokens.cacheWriteTokens) * BigInt(price.cacheWrite) +
    BigInt(tokens.outputTokens) * BigInt(price.output)
  );
}

/** Makes the stored form of usage and puts the price to it. */
export function toUsage(provider: string, model: string, counts: TokenCounts, estimated: boolean): Usage {
  const tokens = {
    inputTokens: count(counts.inputTokens),
    cachedReadTokens: count(counts.cachedReadTokens),
    cacheWriteTokens: count(counts.cacheWriteTokens),
    outputTokens: count(counts.outputTokens),
  };
  const cost = costOf(provider, model, tokens);
  return create(UsageSchema, {
    provider,
    model,
    inputTokens: BigInt(tokens.inputTokens),
    cachedReadTokens: BigInt(tokens.cachedReadTokens),
    cacheWriteTokens: BigInt(tokens.cacheWriteTokens),
    outputTokens: BigInt(tokens.outputTokens),
    estimated,
    ...(cost === undefined ? {} : { costNanos: cost, priceDate: currentPrices().date }),
  });
}

/** Returns what users see of stored usage. */
export function fromUsage(usage: Usage): LlmUsage {
  return {
    provider: usage.provider,
    model: usage.model,
    inputTokens: Number(usage.inputTokens),
    cachedReadTokens: Number(usage.cachedReadTokens),
    cacheWriteTokens: Number(usage.cacheWriteTokens),
    outputTokens: Number(usage.outputTokens),
    estimated: usage.estimated,
    ...(usage.costNanos === undefined ? {} : { costNanos: Number(usage.costNanos), priceDate: usage.priceDate }),
  };
}

/** Estimates the tokens of texts. */
export function estimateTokens(...texts: readonly string[]): number {
  const bytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text, "utf8"), 0);
  return Math.ceil(bytes / BYTES_PER_TOKEN);
}

function count(tokens: number | undefined): number {
  return tokens !== undefined && Number.isSafeInteger(tokens) && tokens > 0 ? tokens : 0;
}

function currentPrices(): PriceList {
  if (prices === undefined) {
    const file = process.env.CELLAFLOW_PRICES;
    prices = file === undefined || file === "" ? shippedPrices : readPrices(file);
  }
  return prices;
}

// A snapshot's price is its model's: "gpt-5.5-2026-04-23" is "gpt-5.5".
function pricesOf(list: PriceList, provider: string, model: string): ModelPrices | undefined {
  const base = model.replace(/-\d{4}-\d{2}-\d{2}$/, "");
  for (const name of [`${provider}/${model}`, model, `${provider}/${base}`, base]) {
    if (Object.hasOwn(list.models, name)) return list.models[name];
  }
  return undefined;
}

function readPrices(file: string): PriceList {
  try {
    return checked(JSON.parse(readFileSync(file, "utf8")) as PriceList, `the price list ${file}`);
  } catch (cause) {
    if (cause instanceof MisuseError) throw cause;
    throw new MisuseError(
      "invalid_prices",
      `the price list ${file} cannot be read`,
      "let CELLAFLOW_PRICES or usePrices name a JSON file",
      { cause },
    );
  }
}

function checked(list: PriceList, what: string): PriceList {
  const wrong = Object.entries(list.models ?? {}).find(
    ([, model]) => !isPriced(model) || !isPriced(model.long ?? model),
  );
  if (typeof list.date === "string" && list.models !== undefined && wrong === undefined) return list;
  throw new MisuseError(
    "invalid_prices",
    wrong === undefined ? `${what} lacks its date or models` : `${what} has no whole prices for "${wrong[0]}"`,
    "give each model input, cachedRead, cacheWrite and output in whole nano-dollars per token",
  );
}

function isPriced(model: TokenPrices): boolean {
  return [model.input, model.cachedRead, model.cacheWrite, model.output].every(
    (price) => Number.isSafeInteger(price) && price >= 0,
  );
}
