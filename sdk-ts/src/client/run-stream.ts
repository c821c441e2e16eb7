/**
 * `client.run(…)` as what it is: a promise of the result, and a stream of what happens until then.
 *
 * Owns: when the stream of a run ends. Never: runs anything.
 */
import type { SessionResult } from "./api.js";
import type { ClientCore } from "./core.js";
import { type StreamItem, subscribe } from "./subscribe.js";

/** A run in this process. */
export interface RunPromise<O = unknown> extends Promise<SessionResult<O>> {
  /**
   * What the session does, from its start until it ends or this run does: events, tokens, resets, and the end. It can be
   * read more than once. A run that rejects makes it throw the same.
   */
  readonly stream: AsyncIterable<StreamItem>;
}

/** Gives a run its stream. `session` resolves when the session is known. */
export function withStream<O>(
  core: ClientCore,
  run: Promise<SessionResult<O>>,
  session: Promise<string>,
): RunPromise<O> {
  const stream = { [Symbol.asyncIterator]: () => follow(core, run, session) };
  return Object.assign(run, { stream });
}

async function* follow<O>(
  core: ClientCore,
  run: Promise<SessionResult<O>>,
  session: Promise<string>,
): AsyncGenerator<StreamItem, void, undefined> {
  const sessionId = await Promise.race([session, run.then((result) => result.sessionId)]);
  const over = new AbortController();
  const stop = (): void => over.abort();
  // A session that has ended ends its stream by itself, with its last item.
  run.then((result) => (hasEnded(result) ? undefined : stop()), stop);
  let from: string | undefined;
  try {
    for await (const item of subscribe(core, sessionId, { signal: over.signal })) {
      from = item.offset;
      yield item;
      if (item.type === "end") return;
    }
  } catch (error) {
    if (!over.signal.aborted) throw error;
  }
  await run;
  yield* subscribe(core, sessionId, { live: false, ...(from === undefined ? {} : { from }) });
}

function hasEnded({ status }: SessionResult): boolean {
  return status === "completed" || status === "failed" || status === "cancelled";
}
