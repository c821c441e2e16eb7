/** Restate: a service of its own over HTTP/2, called through the ingress. */
import * as restate from "@restatedev/restate-sdk";
import * as clients from "@restatedev/restate-sdk-clients";
import type { Session } from "../job.js";
import { loop, type Open } from "./adapter.js";

const bench = restate.service({
  name: "bench",
  handlers: {
    run: (ctx: restate.Context, session: Session) => loop(session, (name, fn) => ctx.run(name, fn)),
  },
});

export const open: Open = async ({ ingress = "", admin = "", port = "" }) => {
  await restate.serve({ services: [bench], port: Number(port) });
  const answer = await fetch(`${admin}/deployments`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    // The address stays the same when a process takes over from one that died.
    body: JSON.stringify({ uri: `http://127.0.0.1:${port}`, force: true }),
  });
  if (!answer.ok) throw new Error(`registering the service: ${answer.status} ${await answer.text()}`);
  const client = clients.connect({ url: ingress }).serviceClient(bench);
  return {
    async run(session) {
      await client.run(session);
    },
    async close() {},
  };
};
