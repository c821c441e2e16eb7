/** The examples that bring an engine of their own: what happens when it is restored, and when its certificates change. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { skip, startExample } from "./process-kit.js";

/** They use none that is there. */
const nowhere = { connection: { url: "", token: "", ca: "" } };
const program = { CELLAFLOW_BIN: process.env.CELLAFLOW_BIN ?? "" };

describe("examples with an engine of their own", { skip }, () => {
  it("a restored ledger refuses the old worker, holds what had not ended, and starts what is new", async () => {
    const text = await startExample(nowhere, "restore/main.js", [], program).ended();
    assert.match(text, /after the backup: 1 message sent/);
    assert.match(text, /the ledger was restored from a backup: sessions that ran here wait/, "the old worker is told");
    assert.match(text, /a new order: \{\s+status: 'completed'[\s\S]*a parcel with milk/);
    assert.match(text, /the old one: held true; .*sessions release/);
    assert.match(text, /released 1: \{\s+status: 'completed'[\s\S]*a parcel with tea/);
    assert.match(text, /messages sent for tea: 2/, "what was done after the backup is not in it");
  });

  it("certificates are renewed while the engine runs, and nobody gets in without one", async () => {
    const text = await startExample(nowhere, "certificates/main.js", [], program).ended();
    assert.match(text, /^with a certificate: hello Ann$/m);
    assert.match(text, /^without one: .*--client-cert/m, "the token alone is not enough");
    assert.match(text, /^renewed, connected before: hello Bob$/m);
    assert.match(text, /^renewed, connected since: hello Cid$/m);
    assert.doesNotMatch(text, /^renewed, trusting the former authority: let in$/m);
    assert.match(text, /^renewed, trusting both: let in$/m);
    assert.match(text, /^a broken key: let in$/m);
  });
});
