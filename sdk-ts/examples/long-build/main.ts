/**
 * Runs the long build, or goes on with one that was killed: node dist/examples/long-build/main.js [SECONDS] [KEY]
 */
import { createClient } from "@cellaflow/sdk";
import { longBuild } from "./workflow.js";

const [seconds = "40", key = `build of ${seconds} s`] = process.argv.slice(2);
console.log(`building for ${seconds} s without yielding once; kill this process and start it again as you like`);
const input = { seconds: Number(seconds), pages: 20, pageMs: 250 };
const result = await createClient().run(longBuild, input, { key });
console.log(result.status === "completed" ? result.output : result);
