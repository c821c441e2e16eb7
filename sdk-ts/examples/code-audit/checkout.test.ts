/** The clone, and the scripted model's edit of a real repository. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { ScriptedMessage, ScriptedRequest } from "@cellaflow/sdk/testing";
import { Checkout, type Edit, headOf } from "./checkout.js";
import script from "./script.js";

const SOURCE = "// Adds two numbers, whatever they are.\nexport const add = (a, b) => a + b;\n// TODO: subtract\n";
const home = process.cwd();
const signal = new AbortController().signal;
let folder = "";
let repository = "";

before(() => {
  folder = mkdtempSync(join(tmpdir(), "checkout-test-"));
  repository = join(folder, "origin");
  const git = (...args: string[]) => execFileSync("git", ["-C", repository, ...args]);
  execFileSync("git", ["init", "--quiet", repository]);
  writeFileSync(join(repository, "add.js"), SOURCE);
  writeFileSync(join(repository, "notes.md"), "TODO\n");
  git("add", ".");
  git("-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "--quiet", "-m", "first");
  process.chdir(folder);
});

after(() => {
  process.chdir(home);
  rmSync(folder, { recursive: true });
});

describe("a checkout", () => {
  it("is of the commit that was recorded, whatever happens to HEAD later", async () => {
    const commit = await headOf(repository, { signal });
    writeFileSync(join(repository, "add.js"), "later\n");
    execFileSync("git", [
      "-C",
      repository,
      "-c",
      "user.name=t",
      "-c",
      "user.email=t@example.com",
      "commit",
      "-qam",
      "x",
    ]);
    assert.notEqual(await headOf(repository, { signal }), commit);
    await using checkout = new Checkout(repository, commit);
    assert.equal(await checkout.read("add.js"), SOURCE);
    assert.deepEqual(await checkout.scan(), [{ path: "add.js", lines: 4, marks: 1 }]);
  });

  it("reads only what git knows", async () => {
    await using checkout = new Checkout(repository, await headOf(repository, { signal }));
    await assert.rejects(checkout.read("../../etc/passwd"), { code: "unfit_edit" });
    await assert.rejects(checkout.read(".git/config"), { code: "unfit_edit" });
  });

  it("makes patches that git applies, and refuses edits that do not fit", async () => {
    await using checkout = new Checkout(repository, await headOf(repository, { signal }));
    const patch = await checkout.patch({ file: "notes.md", find: "TODO", replace: "DONE" });
    execFileSync("git", ["-C", repository, "apply", "--check", "-"], { input: patch });
    for (const edit of [
      { file: "notes.md", find: "absent", replace: "" },
      { file: "notes.md", find: "", replace: "x" },
      { file: "notes.md", find: "TODO", replace: "TODO" },
    ]) {
      await assert.rejects(checkout.patch(edit), { code: "unfit_edit" });
    }
    assert.equal(await checkout.read("notes.md"), "TODO\n");
  });

  it("tells no path of this machine when git fails", async () => {
    const checkout = new Checkout(join(folder, "nowhere"), "0".repeat(40));
    await assert.rejects(checkout.scan(), (error: Error) => !error.message.includes(`${folder}/checkout-`));
  });
});

describe("the scripted model", () => {
  it("proposes an edit that fits, another one when told that it did not", () => {
    const call = { id: "c1", type: "function", function: { name: "read_file", arguments: '{"path":"add.js"}' } };
    const messages: ScriptedMessage[] = [
      { role: "user", content: "- add.js | 3 lines | 1 marks\n- b.js | 1 lines | 0 marks" },
      { role: "assistant", content: null, tool_calls: [call] },
      { role: "tool", tool_call_id: "c1", content: SOURCE },
    ];
    const ask = (body: object, more: ScriptedMessage[] = [], stream = false) => {
      const request = { messages: [...messages, ...more], body, stream } as unknown as ScriptedRequest;
      return script(request);
    };
    const plan = ask({ tools: [] });
    assert.deepEqual(
      plan.toolCalls?.map((one) => one.arguments),
      [{ path: "add.js" }, { path: "b.js" }],
    );
    assert.match(ask({}, [], true).content ?? "", /add\.js/);
    const edit = JSON.parse(ask({ response_format: {} }).content ?? "") as Edit;
    assert.equal(SOURCE.split(edit.find).length, 2);
    const again = ask({ response_format: {} }, [{ role: "user", content: "That edit does not fit: x." }]);
    assert.notEqual((JSON.parse(again.content ?? "") as Edit).find, edit.find);
  });
});
