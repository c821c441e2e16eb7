/**
 * What a tree of sessions has reserved and spent, counted from its ledgers alone; and what a model server was asked.
 *
 * Owns: an account of its own, apart from the engine's: it judges it. Never: runs anything.
 *
 * Invariants:
 * - B1 a reservation counts in full until the outcome of its attempt, then what was used counts. One that another run's
 *   reservation of the same step followed counts in full for good: nobody can tell what its call cost.
 * - B2 a reservation is beyond a limit if it was accepted while it and all that counted before exceeded the limit.
 * - B3 every request that a server got has a reservation of its own.
 */
import type { Event } from "#sdk/gen/cellaflow/v1/event_pb.js";

/** What counts of a tree, in nano-dollars. */
export interface Account {
  /** Reservations that were accepted. */
  reservations: number;
  /** Those that were accepted beyond the limit (B2). */
  beyond: number;
  spentNanos: bigint;
  reservedNanos: bigint;
  /** Most that counted at a time. */
  peakNanos: bigint;
  /** Smallest reservation; 0: there was none. */
  leastNanos: bigint;
}

interface Change {
  timeMs: number;
  /** Outcomes before reservations of the same millisecond: two ledgers have no other order. */
  rank: number;
  apply(account: Account): void;
}

/** A limit on money, from a time on. */
interface Limit {
  fromMs: number;
  nanos: bigint;
}

/** Counts the ledgers of a tree; the first one is that of the session that owns the budget. */
export function accountOf(ledgers: readonly (readonly Event[])[]): Account {
  const limits = (ledgers[0] ?? []).flatMap(limitOf);
  const account: Account = {
    reservations: 0,
    beyond: 0,
    spentNanos: 0n,
    reservedNanos: 0n,
    peakNanos: 0n,
    leastNanos: 0n,
  };
  const changes = ledgers.flatMap((ledger) => changesOf(ledger, limits));
  for (const { apply } of changes.sort((a, b) => a.timeMs - b.timeMs || a.rank - b.rank)) apply(account);
  return account;
}

function limitOf({ body, timeMs }: Event): Limit[] {
  if (body.case === "budgetRaised") return [{ fromMs: Number(timeMs), nanos: body.value.limits?.costNanos ?? 0n }];
  if (body.case !== "sessionStarted") return [];
  return [{ fromMs: Number(timeMs), nanos: body.value.budget?.limits?.costNanos ?? 0n }];
}

function changesOf(ledger: readonly Event[], limits: readonly Limit[]): Change[] {
  const open = new Map<string, bigint>();
  return ledger.flatMap(({ body, timeMs: at }): Change[] => {
    const timeMs = Number(at);
    if (body.case === "budgetReserved") {
      const { stepKey, costNanos = 0n } = body.value;
      const lost = open.get(stepKey) ?? 0n;
      open.set(stepKey, costNanos);
      const limit = limits.findLast(({ fromMs }) => fromMs <= timeMs)?.nanos ?? 0n;
      return [{ timeMs, rank: 1, apply: (account) => reserve(account, costNanos, lost, limit) }];
    }
    const ended = outcomeOf(body);
    const reserved = ended === undefined ? undefined : open.get(ended.stepKey);
    if (ended === undefined || reserved === undefined) return [];
    open.delete(ended.stepKey);
    return [{ timeMs, rank: 0, apply: (account) => settle(account, reserved, ended.costNanos ?? reserved) }];
  });
}

function outcomeOf(body: Event["body"]): { stepKey: string; costNanos: bigint | undefined } | undefined {
  if (body.case === "stepCompleted") return { ...body.value, costNanos: body.value.llm?.usage?.costNanos };
  if (body.case === "stepFailed") return { ...body.value, costNanos: body.value.usage?.costNanos };
  return undefined;
}

function reserve(account: Account, nanos: bigint, lost: bigint, limit: bigint): void {
  account.reservations += 1;
  account.spentNanos += lost;
  account.reservedNanos += nanos - lost;
  const total = account.spentNanos + account.reservedNanos;
  if (total > limit) account.beyond += 1; // B2
  if (total > account.peakNanos) account.peakNanos = total;
  if (account.leastNanos === 0n || nanos < account.leastNanos) account.leastNanos = nanos;
}

function settle(account: Account, reserved: bigint, used: bigint): void {
  account.reservedNanos -= reserved;
  account.spentNanos += used;
}

/** Requests without a reservation (B3). @param requests the session of each request that a server got */
export function unreserved(ledgers: readonly (readonly Event[])[], requests: readonly string[]): number {
  const asked = Map.groupBy(requests, (session) => session);
  let without = requests.length;
  for (const ledger of ledgers) {
    const [first] = ledger;
    const session = first?.body.case === "sessionStarted" ? first.body.value.rootId : "";
    const reserved = ledger.filter(({ body }) => body.case === "budgetReserved").length;
    without -= Math.min(asked.get(session)?.length ?? 0, reserved);
  }
  return without;
}
