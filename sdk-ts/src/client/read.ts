/**
 * Reading a session's events, over lost connections.
 *
 * Owns: going on where a stream broke off, joining pieces, opening payloads. Never: interprets an event.
 *
 * Invariant R1: events come in order, each once; a stream that breaks off for a reason that may pass goes on after the
 * last one.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import { CellaflowError } from "../errors.js";
import type { Event } from "../gen/cellaflow/v1/event_pb.js";
import { SessionService, SubscribeSessionRequestSchema } from "../gen/cellaflow/v1/session_pb.js";
import { Joiner } from "../transport/pieces.js";
import { type ClientCore, refOf, type SessionName } from "./core.js";

const RETRY_MS = 200;
/** Attempts in a row that bring nothing. */
const TRIES_MAX = 50;

/** What is read. */
export interface ReadOptions {
  /** First seq. Default: 1. */
  fromSeq?: number;
  /** Last seq. Default: no bound. */
  toSeq?: number;
  /** True: goes on live until the session ends. */
  live?: boolean;
  /** Payloads stay out. */
  headersOnly?: boolean;
  signal?: AbortSignal | undefined;
}

/** Reads events. @throws CellaflowError `session_not_found` */
export async function* readEvents(
  core: ClientCore,
  session: SessionName,
  options: ReadOptions = {},
): AsyncGenerator<Event> {
  const { toSeq = Number.MAX_SAFE_INTEGER, live = false, headersOnly = false, signal } = options;
  let next = options.fromSeq ?? 1;
  for (let tries = 1; ; tries++) {
    const request = create(SubscribeSessionRequestSchema, {
      session: refOf(session),
      fromSeq: BigInt(next),
      untilCaughtUp: !live,
      headersOnly,
    });
    try {
      for await (const event of eventsOf(core, request, signal)) {
        if (Number(event.seq) > toSeq) return;
        next = Number(event.seq) + 1;
        tries = 0;
        yield event;
        if (next > toSeq) return;
      }
      return;
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof CellaflowError && error.retryable) || tries >= TRIES_MAX) throw error;
      await sleep(RETRY_MS, undefined, { signal });
    }
  }
}

async function* eventsOf(
  core: ClientCore,
  request: Parameters<typeof core.stream<typeof SessionService.method.subscribeSession>>[1],
  signal: AbortSignal | undefined,
): AsyncGenerator<Event> {
  const joiner = new Joiner();
  for await (const { body } of core.stream(SessionService.method.subscribeSession, request, signal)) {
    if (body.case === "piece") joiner.take(body.value);
    else if (body.case === "event") yield core.open(joiner.join(body.value));
    else if (body.case === "end") return;
  }
  // The engine cuts off who takes nothing for a minute: this was not all.
  throw new CellaflowError("unavailable", "the stream broke off before its end", "try again", { retryable: true });
}
