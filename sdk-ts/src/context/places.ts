/**
 * Which event appended which messages: what the handles of compacted contexts name.
 *
 * Owns: the map from events to messages, the form of handles. Never: keeps messages.
 *
 * Invariants:
 * - H1 a handle names one part for ever: `§S.P`, part P (from 0) of all that event S appended; `.0` is left out.
 * - H2 what is not known is an error for the model to read, never other bytes.
 */

/** The sign that handles begin with. */
export const HANDLE_SIGN = "§";

const HANDLE = /^§(0|[1-9]\d{0,15})(?:\.(0|[1-9]\d{0,8}))?$/u;

/** What a handle names. */
export interface Handle {
  seq: number;
  part: number;
}

/** Messages that one event appended. */
export interface Place {
  seq: number;
  /** Index of the first. */
  first: number;
  count: number;
}

/** Reads a handle; undefined: it is none. */
export function parseHandle(text: string): Handle | undefined {
  const match = HANDLE.exec(text.trim());
  return match === null ? undefined : { seq: Number(match[1]), part: Number(match[2] ?? 0) };
}

/** Writes a handle. */
export function showHandle({ seq, part }: Handle): string {
  return part === 0 ? `${HANDLE_SIGN}${seq}` : `${HANDLE_SIGN}${seq}.${part}`;
}

/** The places of one session's messages. */
export class Places {
  private readonly bySeq = new Map<number, Place>();
  private newest: Place | undefined;

  /** Notes what an event appended; the same event may be noted twice. */
  note(seq: number, first: number, count: number): void {
    if (seq === 0 || count === 0) return;
    const place = { seq, first, count };
    this.bySeq.set(seq, place);
    if (this.newest === undefined || this.newest.seq <= seq) this.newest = place;
  }

  /** Forgets everything: the conversation is said again. */
  clear(): void {
    this.bySeq.clear();
    this.newest = undefined;
  }

  /** Says what an event appended. */
  of(seq: number): Place | undefined {
    return this.bySeq.get(seq);
  }

  /** All of them, newest first. */
  newestFirst(): Place[] {
    return [...this.bySeq.values()].sort((a, b) => b.seq - a.seq);
  }

  /** Seq of the last event that is known to have appended messages; 0: none. */
  get committedSeq(): number {
    return this.newest?.seq ?? 0;
  }

  /** How many leading messages the ledger is known to have. */
  get committedMessages(): number {
    return this.newest === undefined ? 0 : this.newest.first + this.newest.count;
  }
}
