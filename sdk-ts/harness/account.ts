/**
 * Who paid twice: joins the model server's own record with the agents' acknowledgement logs.
 *
 * Owns: the definitions of the demo's counters. Never: asks the engine; it is what is being judged.
 *
 * Invariants:
 * - A1 A request is redundant when it arrived after the client held the acknowledgement of that call's commit.
 * - A2 A request is interrupted when the server had not written the last byte of its answer.
 * - A3 A request is repaid when a whole answer to the same call had been written before it arrived.
 */

/** One request, as the model server recorded it. Times are milliseconds since the epoch. */
export interface ServerRequest {
  session: string;
  call: string;
  status: number;
  received_ms: number;
  first_byte_ms: number | null;
  last_byte_ms: number | null;
  complete: boolean;
  charged: boolean;
  prompt_tokens: number;
  completion_tokens: number;
}

/** One line of an agent's acknowledgement log, written before the outcome is delivered to workflow code. */
export interface Acknowledgement {
  session: string;
  call: string;
  seq: number;
  /** When the client held the acknowledgement, in milliseconds since the epoch. */
  ms: number;
}

/** What was killed in a run. */
export type Target = "none" | "agent" | "engine" | "both";

/** The demo's counters about model requests. */
export interface Bill {
  requests: number;
  redundant: number;
  /** The redundant ones, as "session call", for a person. */
  redundantCalls: readonly string[];
  interrupted: number;
  repaid: number;
  interruptedByEngineKills: number;
  /** Calls answered whole in runs without kills for which no agent logged an acknowledgement: the witness was blind. */
  unwitnessed: number;
  /** Tokens of all answers the server charged for. */
  tokens: number;
}

/** Judges every request of the server's record. */
export function settle(
  requests: readonly ServerRequest[],
  acknowledgements: readonly Acknowledgement[],
  targetOf: (session: string) => Target,
): Bill {
  const heldSince = earliest(acknowledgements);
  const redundantCalls: string[] = [];
  const bill: Bill = {
    requests: requests.length,
    redundant: 0,
    redundantCalls,
    interrupted: 0,
    repaid: 0,
    interruptedByEngineKills: 0,
    unwitnessed: 0,
    tokens: 0,
  };
  for (const calls of Map.groupBy(requests, nameOf).values()) {
    const inOrder = [...calls].sort((a, b) => a.received_ms - b.received_ms);
    for (const [index, request] of inOrder.entries()) {
      const held = heldSince.get(nameOf(request)) ?? Number.POSITIVE_INFINITY;
      // Both clocks count whole milliseconds: only a call's first request may share one with the acknowledgement.
      if (request.received_ms > held || (index > 0 && request.received_ms === held)) {
        bill.redundant += 1;
        redundantCalls.push(`${request.session} ${request.call}`);
      }
      if (inOrder.slice(0, index).some((earlier) => wholeBefore(earlier, request))) bill.repaid += 1;
      if (isInterrupted(request)) {
        bill.interrupted += 1;
        if (targetOf(request.session) === "engine") bill.interruptedByEngineKills += 1;
      }
      if (request.charged) bill.tokens += request.prompt_tokens + request.completion_tokens;
    }
    const first = inOrder[0];
    if (first !== undefined && targetOf(first.session) === "none" && !heldSince.has(nameOf(first))) {
      bill.unwitnessed += 1;
    }
  }
  return bill;
}

/** Whether the server had not written the last byte of a request's answer. */
export function isInterrupted(request: ServerRequest): boolean {
  return !request.complete;
}

/** Whether the answer to one of a session's requests was being written at that moment. */
export function isMidStream(requests: readonly ServerRequest[], session: string, atMs: number): boolean {
  return requests.some((request) => {
    const { first_byte_ms: first, last_byte_ms: last } = request;
    return request.session === session && first !== null && first <= atMs && (last ?? Number.POSITIVE_INFINITY) >= atMs;
  });
}

function wholeBefore(earlier: ServerRequest, request: ServerRequest): boolean {
  const answered = earlier.complete && earlier.charged && earlier.last_byte_ms !== null;
  return answered && (earlier.last_byte_ms ?? 0) <= request.received_ms;
}

function earliest(acknowledgements: readonly Acknowledgement[]): Map<string, number> {
  const held = new Map<string, number>();
  for (const one of acknowledgements) {
    const name = nameOf(one);
    held.set(name, Math.min(one.ms, held.get(name) ?? Number.POSITIVE_INFINITY));
  }
  return held;
}

function nameOf(of: { session: string; call: string }): string {
  return `${of.session}\n${of.call}`;
}
