import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { it } from "node:test";
import { parseStatus, Rss } from "./rss.js";

it("reads what the kernel says about a process", () => {
  const text = "Name:\tcellaflow\nVmPeak:\t  999999 kB\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\nThreads:\t9\n";
  assert.deepEqual(parseStatus(text), { now: 10, highest: 20 });
  assert.deepEqual(parseStatus("Name:\tzombie\n"), { now: 0, highest: 0 });
});

it("keeps the largest size through restarts", { skip: !existsSync("/proc/self/status") }, () => {
  const rss = new Rss();
  rss.watch(process.pid);
  assert.ok(rss.sample() > 1);
  const before = rss.max;
  rss.watch(999_999_999);
  assert.equal(rss.sample(), 0);
  assert.equal(rss.max, before);
  rss.stop();
});
