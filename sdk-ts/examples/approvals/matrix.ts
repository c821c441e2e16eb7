/** The refund in the kill matrix: approved, rejected, and forgotten. */
import type { MatrixExample, MatrixRun, SeenSession } from "#sdk/matrix/example.js";
import { refunds } from "./workflow.js";

const input = { order: "A-1", cents: 1_900, expiresIn: 3_600_000 };

const refund = {
  workflows: [refunds],
  workflow: refunds,
  input: () => input,
};

/** Decides whatever is open. The same decision again is the same decision. */
const deciding = (decision: "approve" | "reject") => ({
  async outside({ info }: SeenSession, { client }: MatrixRun) {
    for (const approval of await client.approvals(info.sessionId)) {
      await client[decision](approval, { comment: "seen", onBehalfOf: "Ann", id: "a1".repeat(16) });
    }
    return undefined;
  },
});

export default [
  { ...refund, ...deciding("approve"), name: "approvals" },
  { ...refund, ...deciding("reject"), name: "approvals/rejected" },
  { ...refund, input: () => ({ ...input, expiresIn: 200 }), name: "approvals/expired" },
] satisfies MatrixExample<typeof input>[];
