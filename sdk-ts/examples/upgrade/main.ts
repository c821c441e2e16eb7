/**
 * An upgrade by hand, in two terminals:
 *
 *     node dist/examples/upgrade/main.js serve 1.0.0            # the old release
 *     node dist/examples/upgrade/main.js order tea [SECONDS]    # packed for a minute
 *
 * While it sleeps: stop the old release, look what its sessions need, and try the new ones without touching anything:
 *
 *     cellaflow workflows show order
 *     cellaflow sessions check --code dist/examples/upgrade/workflow.js --as 1.1.0
 *     cellaflow workflows drain order@1.0.0                     # new orders go to newer releases
 *     node dist/examples/upgrade/main.js serve 1.1.0 2.0.0      # finishes the old orders, takes new ones
 *
 * `CHARGE_URL` names the shop's books; default: a counting server of this process.
 */
import { createClient, createWorker } from "@cellaflow/sdk";
import { v1, v1_1, v2 } from "./workflow.js";

const [verb, ...names] = process.argv.slice(2);

async function serve(versions: readonly string[]): Promise<void> {
  if (!process.env.CHARGE_URL) {
    const { startCountingServer } = await import("@cellaflow/sdk/testing");
    process.env.CHARGE_URL = (await startCountingServer()).url;
  }
  const workflows = [v1, v1_1, v2].filter(({ version }) => versions.includes(version));
  const observer = {
    stepDelivered: ({ stepKey, replayed }: { stepKey: string; replayed: boolean }) =>
      console.log(`${replayed ? "recorded" : "now"}: ${stepKey}`),
  };
  console.log(`serving ${versions.join(", ")}; Ctrl-C gives everything back`);
  await createWorker({ workflows, observer }).run({ handleSignals: true });
  process.exit();
}

async function order(name: string, seconds: string): Promise<void> {
  const client = createClient();
  // Only named: the newest release that is not drained.
  const input = { order: name, cents: 4_200, packingMs: Number(seconds) * 1_000 };
  const session = await client.start({ name: v1.name }, input, { key: name });
  const { version, status } = await session.get();
  console.log(`${session.created ? "ordered" : "there already"}: ${session.sessionId}, version ${version}, ${status}`);
  const result = await session.result({ whileWaiting: "follow" });
  console.log(result.status === "completed" ? result.output : result);
}

if (verb === "serve" && names.length > 0) await serve(names);
else if (verb === "order") await order(names[0] ?? "tea", names[1] ?? "60");
else console.error("say `serve VERSION…` or `order NAME [SECONDS]`");
