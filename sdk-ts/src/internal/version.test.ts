/** The version in the Hello is the package's. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { SDK_VERSION } from "./version.js";

test("the version is the package's", () => {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  assert.equal(SDK_VERSION, (JSON.parse(text) as { version: string }).version);
});
