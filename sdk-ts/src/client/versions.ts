/**
 * The versions of workflows: what runs on each and what must be started; draining them.
 *
 * Owns: the public shape and the calls. Never: decides which version runs a session.
 */
import { create } from "@bufbuild/protobuf";
import { CellaflowError } from "../errors.js";
import {
  DrainWorkflowRequestSchema,
  ListWorkflowsRequestSchema,
  OperatorService,
  type WorkflowVersion as Wire,
} from "../gen/cellaflow/v1/operator_pb.js";
import type { CallOptions, ClientCore } from "./core.js";
import { type SessionStatus, statusOf } from "./session.js";

/** A version of a workflow. */
export interface VersionInfo {
  workflow: string;
  version: string;
  /** Earlier versions whose sessions its code goes on with. */
  compatible: readonly string[];
  /** Sessions pinned to it that have not ended, by state. */
  sessions: Readonly<Partial<Record<SessionStatus, number>>>;
  /** Why those of them that do not go on wait, most frequent first. */
  waiting: readonly { reason: string; count: number; sessionIds: readonly string[] }[];
  /** Instances of the connected workers that serve it. */
  workers: readonly string[];
  /** What must be started so that its sessions can go on; empty: nothing. */
  needs: string;
  /** When a worker first served it; undefined: none has. */
  firstSeen: Date | undefined;
  /** When one was last known to: to an hour if none does now. */
  lastSeen: Date | undefined;
  /** Since when it starts no new sessions, and by whom; undefined: it does. */
  draining: { since: Date; by: string } | undefined;
  /** It is draining, and no session needs its code any more. */
  drained: boolean;
}

/** Which version is drained. */
export interface VersionName {
  name: string;
  version: string;
}

/** What clients do with versions. */
export interface VersionOperations {
  /** Lists the versions of one workflow, or of all: what runs on each, why it waits, what must be started. */
  versions(workflow?: string, options?: CallOptions): Promise<VersionInfo[]>;
  /** Lets a version start no new sessions (`version_draining`); those that are there run to their end. */
  drain(version: VersionName, options?: CallOptions): Promise<VersionInfo>;
  /** Lets a drained version start sessions again. */
  undrain(version: VersionName, options?: CallOptions): Promise<VersionInfo>;
}

/** Makes them. */
export function versionsOf(core: ClientCore): VersionOperations {
  return {
    versions: (workflow, options = {}) => versions(core, workflow, options),
    drain: (version, options = {}) => drain(core, version, true, options),
    undrain: (version, options = {}) => drain(core, version, false, options),
  };
}

async function versions(
  core: ClientCore,
  workflow: string | undefined,
  { signal }: CallOptions,
): Promise<VersionInfo[]> {
  const request = create(ListWorkflowsRequestSchema, { workflow: workflow ?? "" });
  const answer = await core.call(OperatorService.method.listWorkflows, request, { signal });
  return answer.versions.map(versionInfo);
}

async function drain(
  core: ClientCore,
  { name, version }: VersionName,
  draining: boolean,
  { signal }: CallOptions,
): Promise<VersionInfo> {
  const dedupeId = crypto.getRandomValues(new Uint8Array(16));
  const request = create(DrainWorkflowRequestSchema, { workflow: name, version, draining, dedupeId });
  const answer = await core.call(OperatorService.method.drainWorkflow, request, { signal });
  if (answer.version !== undefined) return versionInfo(answer.version);
  throw new CellaflowError("engine_error", "the engine answered without the version", "update the engine");
}

function versionInfo(wire: Wire): VersionInfo {
  const { workflow, version, compatible, workers, needs, drained, drainingBy } = wire;
  const sessions: VersionInfo["sessions"] = Object.fromEntries(
    wire.sessions.map(({ status, count }) => [statusOf(status), Number(count)]),
  );
  const waiting = wire.waiting.map(({ reason, count, sessionIds }) => ({ reason, count: Number(count), sessionIds }));
  const since = dateOf(wire.drainingSinceMs);
  return {
    ...{ workflow, version, compatible, sessions, waiting, workers, needs, drained },
    firstSeen: dateOf(wire.firstSeenMs),
    lastSeen: dateOf(wire.lastSeenMs),
    draining: since && { since, by: drainingBy },
  };
}

function dateOf(ms: bigint): Date | undefined {
  return ms === 0n ? undefined : new Date(Number(ms));
}
