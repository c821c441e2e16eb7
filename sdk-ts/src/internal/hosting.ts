/**
 * Makes a run of a session that was bound here.
 *
 * Owns: putting a run together. Never: decides which sessions are taken.
 */
import { appendFileSync } from "node:fs";
import { contextSource } from "../context/source.js";
import { CellaflowError } from "../errors.js";
import type { Assigned } from "../gen/cellaflow/v1/worker_pb.js";
import { bodyOf } from "../runtime/body.js";
import type { Logger, RunObserver } from "../runtime/observer.js";
import { Run } from "../runtime/run.js";
import type { AckLine, RunEnd } from "../runtime/run-types.js";
import type { Workflow } from "../runtime/workflow.js";
import type { Channel } from "../transport/channel.js";
import type { SessionLink } from "../transport/link.js";
import { type PayloadHooks, payloadCodec } from "../values/hooks.js";
import { sealerOf } from "./sealing.js";

/** Options common to everything that runs sessions. */
export interface RunOptions {
  /** Redaction and encryption of payloads. */
  hooks?: PayloadHooks;
  /** Takes log lines. Default: warnings and errors to stderr. */
  log?: Logger;
  /** Watches timings. */
  observer?: RunObserver;
  /**
   * Path of an acknowledgement log: one JSON line per acknowledged commit and per model call in it, written before the
   * outcome is delivered. Default: the environment's CELLAFLOW_ACK_LOG; else none.
   */
  ackLog?: string;
  /**
   * How long a run whose code only waits (for timers, signals, approvals, children) is kept before the session is given
   * back, in ms. If a timer of it fires within five seconds it is kept until then. Default: 250.
   */
  suspendLingerMs?: number;
}

const SUSPEND_LINGER_MS = 250;

/** Runs a bound session until it ends for this process. */
export async function host(
  channel: Channel,
  link: SessionLink,
  assigned: Assigned,
  definition: Workflow,
  options: RunOptions & { log: Logger },
  started: (run: Run) => void = () => {},
): Promise<RunEnd> {
  const { session } = assigned;
  const { limits } = channel;
  if (session === undefined || limits === undefined) {
    throw new CellaflowError("engine_error", "the engine assigned a session without naming it", "update the engine");
  }
  const sealer = sealerOf(options.hooks);
  link.sealWith(sealer);
  const run = new Run({
    session: {
      sessionId: session.sessionId,
      rootId: session.rootId,
      workflow: session.workflow,
      version: session.version,
    },
    digestSalt: assigned.digestSalt,
    body: bodyOf(definition),
    journal: link,
    limits,
    contexts: contextSource(channel.client),
    codec: payloadCodec(redaction(options.hooks)),
    sealed: sealer !== undefined,
    log: options.log,
    observer: options.observer ?? {},
    ackLog: ackLogOf(options.ackLog),
    mayBlock: () => channel.outliveBlocking(),
    suspendLingerMs: options.suspendLingerMs ?? SUSPEND_LINGER_MS,
    grantedMs: link.grantedMs,
  });
  started(run);
  try {
    const events = await link.replayed;
    run.noteEvents(sealer?.open(events) ?? events);
    run.start(link.replayToSeq);
    link.attachRun(run);
  } catch (error) {
    // Events that cannot be read here may be readable for another worker.
    await link.release("unable");
    link.close();
    throw error;
  }
  return run.ended;
}

/** The byte hooks are applied at the edge (`sealing.ts`), to whole payloads. */
export function redaction(hooks: PayloadHooks | undefined): PayloadHooks {
  return hooks?.redact === undefined ? {} : { redact: hooks.redact.bind(hooks) };
}

/** Writes synchronously: a line is there before the outcome is seen, whatever happens to this process. */
function ackLogOf(path: string | undefined): ((line: AckLine) => void) | undefined {
  const file = path ?? process.env.CELLAFLOW_ACK_LOG;
  if (file === undefined || file === "") return undefined;
  return (line) => appendFileSync(file, `${JSON.stringify(line)}\n`);
}

/** The default logger: what needs attention. */
export const quietLogger =
  (logger: Logger): Logger =>
  (level, message, fields) => {
    if (level === "warn" || level === "error") logger(level, message, fields);
  };
