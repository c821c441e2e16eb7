/** Prices and tokens (U1, U2 of usage.ts). */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, it } from "node:test";
import { tokensOf } from "./answer.js";
import { retryAfterOf } from "./failures.js";
import shipped from "./prices.json" with { type: "json" };
import { costOf, estimateTokens, type PriceList, toUsage, usePrices } from "./usage.js";

const tokens = (inputTokens: number, outputTokens: number) => ({
  inputTokens,
  outputTokens,
  cachedReadTokens: 0,
  cacheWriteTokens: 0,
});
const price = { input: 1, cachedRead: 2, cacheWrite: 3, output: 4 };

afterEach(() => usePrices(shipped as PriceList));

describe("prices", () => {
  it("are whole nano-dollars for every model we ship (U1)", () => usePrices(shipped as PriceList));

  it("of a snapshot are its model's, of an unknown model absent rather than nothing (U1)", () => {
    assert.equal(costOf("openai", "gpt-4.1-2025-04-14", tokens(1_000, 100)), 2_800_000n);
    assert.equal(costOf("openai", "gpt-4.1-what", tokens(1, 1)), undefined);
    assert.equal(toUsage("p", "toString", tokens(1, 1), false).costNanos, undefined);
  });

  it("of long requests are their own", () => {
    const { long } = shipped.models["gpt-6-luna"];
    assert.equal(
      costOf("openai", "gpt-6-luna", tokens(long.overTokens + 1, 0)),
      BigInt(long.input * (long.overTokens + 1)),
    );
  });

  it("can be replaced, by provider first, and refuse fractions", () => {
    const folder = mkdtempSync(join(tmpdir(), "prices-"));
    const file = join(folder, "prices.json");
    const list: PriceList = { date: "2030-01-01", models: { "mine/m": price, m: { ...price, input: 9 } } };
    writeFileSync(file, JSON.stringify(list));
    usePrices(file);
    rmSync(folder, { recursive: true });
    const counts = { inputTokens: 1, cachedReadTokens: 1, cacheWriteTokens: 1, outputTokens: 1 };
    assert.equal(costOf("mine", "m", counts), 10n);
    assert.equal(costOf("other", "m", counts), 18n);
    assert.equal(toUsage("mine", "m", counts, false).priceDate, "2030-01-01");
    assert.throws(() => usePrices({ ...list, models: { m: { ...price, input: 0.5 } } }), { code: "invalid_prices" });
    assert.throws(() => usePrices(file), { code: "invalid_prices" });
  });
});

describe("tokens", () => {
  it("split what was read from and written to a cache from the rest", () => {
    const details = { cached_tokens: 30, cache_write_tokens: 20 };
    assert.deepEqual(tokensOf({ prompt_tokens: 100, completion_tokens: 7, prompt_tokens_details: details }), {
      inputTokens: 50,
      cachedReadTokens: 30,
      cacheWriteTokens: 20,
      outputTokens: 7,
    });
    assert.equal(tokensOf({ prompt_tokens: 10, prompt_cache_hit_tokens: 4 }).inputTokens, 6);
  });

  it("are estimated from UTF-8 bytes", () => assert.equal(estimateTokens("üü", "ab"), 2));
});

describe("retry-after", () => {
  it("is read in its three forms", () => {
    assert.equal(retryAfterOf(new Headers({ "retry-after-ms": "120" })), 120);
    assert.equal(retryAfterOf(new Headers({ "retry-after": "2" })), 2_000);
    const date = new Date(Date.now() + 5_000).toUTCString();
    const wait = retryAfterOf(new Headers({ "retry-after": date })) ?? 0;
    assert.ok(wait > 3_000 && wait <= 5_000, String(wait));
    assert.equal(retryAfterOf(new Headers({ "retry-after": "soon" })), undefined);
  });
});
