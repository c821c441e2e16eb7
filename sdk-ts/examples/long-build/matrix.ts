/** The long build in the kill matrix. */
import type { MatrixExample } from "#sdk/matrix/example.js";
import { longBuild } from "./workflow.js";

export default {
  name: "long-build",
  workflows: [longBuild],
  workflow: longBuild,
  input: () => ({ seconds: 0.3, pages: 3, pageMs: 20 }),
} satisfies MatrixExample<{ seconds: number; pages: number; pageMs: number }>;
