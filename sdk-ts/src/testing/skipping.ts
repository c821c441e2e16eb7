/**
 * Skips the time in which nothing happens: while no session runs, the engine's clock is moved to the next moment that
 * one waits for.
 *
 * Owns: when to skip, and how far. Never: skips while a session runs or is about to.
 */
import { create } from "@bufbuild/protobuf";
import { type Session, SessionStatus } from "../gen/cellaflow/v1/common_pb.js";
import { ListSessionsRequestSchema, SessionService } from "../gen/cellaflow/v1/session_pb.js";
import { connectionOf } from "../internal/connection.js";
import type { ConnectionOptions } from "../transport/lookup.js";
import { sleep } from "./http.js";

/** How often the sessions are looked at, in ms. */
const LOOK_MS = 40;
const CALL_MS_MAX = 5_000;
const SESSIONS_MAX = 1_000;

/** What is skipped on. */
export interface SkippingClock {
  readonly connection: ConnectionOptions;
  now(): number;
  skip(ms: number): Promise<void>;
}

/** Waits for a promise, and skips the waiting. */
export async function skipWhile<T>(clock: SkippingClock, promise: Promise<T>): Promise<T> {
  let settled = false;
  const done = (): void => {
    settled = true;
  };
  promise.then(done, done);
  while (!settled) {
    await Promise.race([promise.catch(() => undefined), sleep(LOOK_MS)]);
    // An engine that is being restarted answers later.
    const due = settled ? undefined : await nextMoment(clock.connection).catch(() => undefined);
    if (due !== undefined) await clock.skip(Math.max(0, due - clock.now())).catch(() => undefined);
  }
  return promise;
}

/** When the next waiting session is due, in ms since the Unix epoch; undefined: one runs, or nothing is due. */
async function nextMoment(connection: ConnectionOptions): Promise<number | undefined> {
  const statuses = [SessionStatus.PENDING, SessionStatus.RUNNING, SessionStatus.WAITING];
  const request = create(ListSessionsRequestSchema, { statuses, pageSize: SESSIONS_MAX });
  const { client } = connectionOf(connection);
  const { sessions } = await client.unary(SessionService.method.listSessions, request, { timeoutMs: CALL_MS_MAX });
  if (sessions.some(({ status }) => status !== SessionStatus.WAITING)) return undefined;
  const moments = sessions.flatMap(duesOf);
  return moments.length === 0 ? undefined : Math.min(...moments);
}

function duesOf({ waits }: Session): number[] {
  return waits.flatMap(({ dueMs }) => (dueMs === 0n ? [] : [Number(dueMs)]));
}
