/** The reminders in the kill matrix. */
import type { MatrixExample, MatrixWorld } from "#sdk/matrix/example.js";
import { reminders } from "./workflow.js";

const input = { to: "team@example.com", about: "look at the matrix", times: 3, everyMs: 150 };

export default {
  name: "reminders",
  workflows: [reminders],
  workflow: reminders,
  input: () => input,
  env: (world: MatrixWorld) => ({ SMTP_QUERY_URL: world.mailQueryUrl }),
} satisfies MatrixExample<typeof input>;
