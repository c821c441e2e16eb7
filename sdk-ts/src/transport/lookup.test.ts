/** Finding the engine: the order of places, and never mixing one place's token with another's address (L1 to L3). */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { CellaflowError } from "../errors.js";
import { findConnection } from "./lookup.js";

const top = mkdtempSync(join(tmpdir(), "cellaflow-lookup-"));
after(() => rmSync(top, { recursive: true, force: true }));

function write(folder: string, content: string): string {
  mkdirSync(folder, { recursive: true });
  const path = join(folder, "connection.json");
  writeFileSync(path, content);
  return path;
}

const file = (url: string) => JSON.stringify({ url, token: "file-token", ca: "" });
const home = join(top, "home");
const deep = join(top, "project", "a", "b");
mkdirSync(deep, { recursive: true });
const users = write(join(home, ".config", "cellaflow"), file("https://user:1"));
const nearest = write(join(top, "project", ".cellaflow"), file("https://near:1"));

test("options, then environment, then the nearest file upwards, then the user's", () => {
  const env = { HOME: home, CELLAFLOW_URL: "https://env:1", CELLAFLOW_TOKEN: "env-token" };
  const all = { env, folder: deep };
  assert.equal(findConnection({ url: "https://opt:1", token: "t" }, all).url, "https://opt:1");
  assert.equal(findConnection({}, all).url, "https://env:1");
  assert.equal(findConnection({}, { env: { HOME: home }, folder: deep }).source, nearest);
  assert.equal(findConnection({}, { env: { HOME: home }, folder: home }).source, users);
  const config = join(top, "xdg");
  const xdg = write(join(config, "cellaflow"), file("https://xdg:1"));
  assert.equal(findConnection({}, { env: { HOME: home, XDG_CONFIG_HOME: config }, folder: home }).source, xdg);
});

test("L1 a token and an address of different places are never put together", () => {
  const env = { HOME: home, CELLAFLOW_TOKEN: "env-token" };
  assert.equal(findConnection({}, { env, folder: deep }).token, "file-token");
  const noToken = { env: { HOME: home, CELLAFLOW_URL: "https://env:1" }, folder: deep };
  assert.throws(() => findConnection({}, noToken), { code: "invalid_connection" });
});

test("L2 a file that cannot be used is an error, L3 nothing found lists every place", () => {
  const broken = join(top, "broken");
  const path = write(join(broken, ".cellaflow"), "{");
  assert.throws(
    () => findConnection({}, { env: { HOME: home }, folder: broken }),
    (error: unknown) => error instanceof CellaflowError && error.message.includes(path),
  );
  const empty = join(top, "empty");
  mkdirSync(empty);
  assert.throws(
    () => findConnection({}, { env: { HOME: empty }, folder: empty }),
    (error: unknown) =>
      error instanceof CellaflowError &&
      error.code === "no_connection" &&
      error.message.includes(join(empty, ".cellaflow", "connection.json")) &&
      error.message.includes(join(empty, ".config", "cellaflow", "connection.json")),
  );
});

test("the certificate authority is PEM text or a file", () => {
  const pem = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n";
  const path = join(top, "ca.pem");
  writeFileSync(path, pem);
  const found = (ca: string) => findConnection({ url: "https://x:1", token: "t", ca }).ca;
  assert.equal(found(pem), pem);
  assert.equal(found(path), pem);
  assert.throws(() => found(join(top, "none.pem")), { code: "invalid_connection" });
});

test("a client certificate comes with its key, from options, environment or file", () => {
  const pem = (what: string) => `-----BEGIN ${what}-----\nx\n-----END ${what}-----\n`;
  const [cert, key] = [pem("CERTIFICATE"), pem("PRIVATE KEY")];
  const env = { HOME: home, CELLAFLOW_CERT: cert, CELLAFLOW_KEY: key };
  const found = findConnection({}, { env, folder: deep });
  assert.deepEqual([found.cert, found.key], [cert, key]);
  const plain = findConnection({}, { env: { HOME: home }, folder: deep });
  assert.deepEqual([plain.cert, plain.key], ["", ""]);
  const half = { env: { HOME: home, CELLAFLOW_CERT: cert }, folder: deep };
  assert.throws(() => findConnection({}, half), { code: "invalid_connection" });
});
