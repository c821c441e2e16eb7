/**
 * What sessions are found by: their labels, and the filters of lists.
 *
 * Owns: the calls. Never: keeps labels (the ledger does).
 */
import { create } from "@bufbuild/protobuf";
import { SessionFilterSchema, SessionService, SetLabelsRequestSchema } from "../gen/cellaflow/v1/session_pb.js";
import type { ListOptions } from "./api.js";
import { type CallOptions, type ClientCore, refOf, type SessionName } from "./core.js";
import { type SessionInfo, sessionInfo } from "./session.js";

const NANOS_PER_USD = 1e9;

/** Changes a session's labels; undefined removes one. */
export async function setLabels(
  core: ClientCore,
  session: SessionName,
  labels: Readonly<Record<string, string | undefined>>,
  { signal }: CallOptions,
): Promise<SessionInfo> {
  const set: Record<string, string> = {};
  const removed: string[] = [];
  for (const [key, value] of Object.entries(labels)) {
    if (value === undefined) removed.push(key);
    else set[key] = value;
  }
  const dedupeId = crypto.getRandomValues(new Uint8Array(16));
  const request = create(SetLabelsRequestSchema, { session: refOf(session), set, removed, dedupeId });
  return sessionInfo((await core.call(SessionService.method.setLabels, request, { signal })).session);
}

/** The conditions of a list beside status and workflow. */
export function listFilter(options: ListOptions) {
  const ms = (date: Date | undefined): bigint => BigInt(date?.getTime() ?? 0);
  const nanos = (usd: number | undefined): bigint => BigInt(Math.round((usd ?? 0) * NANOS_PER_USD));
  return create(SessionFilterSchema, {
    version: options.version ?? "",
    labels: { ...options.labels },
    startedAfterMs: ms(options.startedAfter),
    startedBeforeMs: ms(options.startedBefore),
    costMinNanos: nanos(options.costMin),
    costMaxNanos: nanos(options.costMax),
    held: options.held ?? false,
  });
}
