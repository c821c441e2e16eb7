/**
 * A build that blocks its process (`execFileSync`) for longer than a lease lasts, and a crawl that says how far it is.
 *
 * The lease is renewed from a thread of its own, so nobody else takes the session over and nothing runs twice. Killed in
 * the middle of the crawl, the next attempt goes on at the page that the last heartbeat named.
 */
import { execFileSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { workflow } from "@cellaflow/sdk";
import * as z from "zod";

const Input = z.object({
  /** How long the build blocks, in seconds. */
  seconds: z.number(),
  pages: z.number().int(),
  /** Time per page, in ms. */
  pageMs: z.number(),
});

interface Crawl {
  page: number;
  found: number;
}

export const longBuild = workflow({ name: "long-build", version: "1", input: Input }, async (ctx, input) => {
  const built = await ctx.step(
    "build",
    (seconds) => {
      execFileSync("sleep", [String(seconds)]);
      return "built";
    },
    { input: input.seconds },
  );
  const crawled = await ctx.step(
    "crawl",
    async ({ pages, pageMs }, step) => {
      let at = (step.progress as Crawl | undefined) ?? { page: 0, found: 0 };
      while (at.page < pages) {
        await sleep(pageMs, undefined, { signal: step.signal });
        at = { page: at.page + 1, found: at.found + 2 };
        step.heartbeat(at);
      }
      return at;
    },
    // No page may take longer than this: each heartbeat starts the clock again.
    { input: { pages: input.pages, pageMs: input.pageMs }, timeoutMs: 30_000 },
  );
  return { built, ...crawled };
});
