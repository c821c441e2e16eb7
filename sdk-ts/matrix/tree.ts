/**
 * Follows all sessions of one run: the first one, its children and successors, and what outside actors add.
 *
 * Owns: the sessions' labels, by which the sessions of two runs of an example are compared: "root", "root/STEP" for the
 * child that a step spawned, "X>" for the successor of X, "fork-1" for the first one that an actor added.
 */
import { SessionStatus } from "#sdk/gen/cellaflow/v1/common_pb.js";
import type { Event } from "#sdk/gen/cellaflow/v1/event_pb.js";
import { type Boundary, boundary } from "#sdk/harness/plan.js";
import { type Key, type Source, Watch } from "#sdk/harness/watch.js";

/** One session of a run. */
export interface Branch {
  label: string;
  watch: Watch;
  /** Its events so far. */
  seen: Boundary[];
  /** UNSPECIFIED until it has ended. */
  status: SessionStatus;
}

/** The label of the first session. */
export const ROOT = "root";

/** All sessions of one run. */
export class Tree {
  readonly branches = new Map<string, Branch>();
  private readonly known = new Set<string>();
  private forks = 0;
  private failed: unknown;

  constructor(
    private readonly source: Source,
    private readonly onEvent: (branch: Branch, event: Event) => void,
  ) {}

  get root(): Branch {
    return this.branches.get(ROOT) as Branch;
  }

  /** Follows the first session. */
  start(key: Key): void {
    this.follow(ROOT, key);
  }

  /** Follows a session that an outside actor made. */
  add(sessionId: string): void {
    if (this.known.has(sessionId)) return;
    this.forks += 1;
    this.follow(`fork-${this.forks}`, { sessionId });
  }

  /** Whether every session has ended. @throws when one cannot be followed */
  get ended(): boolean {
    if (this.failed !== undefined) throw this.failed;
    return [...this.branches.values()].every(({ status }) => status !== SessionStatus.UNSPECIFIED);
  }

  stop(): void {
    for (const { watch } of this.branches.values()) watch.stop();
  }

  private follow(label: string, of: Key | { sessionId: string }): void {
    if ("sessionId" in of) {
      if (this.known.has(of.sessionId)) return;
      this.known.add(of.sessionId);
    }
    const seen: Boundary[] = [];
    const watch = new Watch(this.source, of, (event) => this.see(label, event));
    const branch: Branch = { label, watch, seen, status: SessionStatus.UNSPECIFIED };
    this.branches.set(label, branch);
    watch.ended.then(
      (status) => {
        branch.status = status;
      },
      (error: unknown) => {
        this.failed ??= error;
      },
    );
  }

  private see(label: string, event: Event): void {
    const branch = this.branches.get(label);
    if (branch === undefined) return;
    this.known.add(branch.watch.sessionId);
    branch.seen.push(boundary(event));
    for (const [suffix, sessionId] of offspring(event)) this.follow(label + suffix, { sessionId });
    this.onEvent(branch, event);
  }
}

/** Sessions that an event names, with what their labels add to its session's. */
function offspring({ body }: Event): [string, string][] {
  const value = (body.value ?? {}) as { stepKey?: string; childId?: string; successorId?: string };
  if (body.case === undefined) return [];
  const kind: string = body.case;
  if (kind === "childSpawned" && value.childId) return [[`/${value.stepKey}`, value.childId]];
  if (kind === "sessionContinued" && value.successorId) return [[">", value.successorId]];
  return [];
}
