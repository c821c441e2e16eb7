/**
 * The contexts that a run has used, in ledger order.
 *
 * Owns: which compacted contexts its ledger has, and what the previous prompt was. Never: asks the engine.
 *
 * Invariants:
 * - U1 what is here was delivered from the ledger: a replay has the same at the same place.
 * - U2 a compacted context is stored once per ledger; later uses name the event that has it.
 * - U3 within one session an older version is never used after a newer one.
 */
import { type ContextDocument, ContextSource, type ContextUsed } from "../gen/cellaflow/content/v1/content_pb.js";
import type { Message } from "../runtime/messages.js";
import type { Artefact, Block } from "./choose.js";
import { Patience } from "./patience.js";

/** A compacted context of the ledger. */
export interface StoredArtefact extends Artefact {
  /** Event that has it. */
  seq: number;
}

/** The contexts of one run. */
export class ContextUses {
  readonly patience = new Patience();
  private readonly bySeq = new Map<number, readonly Block[]>();
  private newest: StoredArtefact | undefined;
  private last: { used: ContextUsed; messages: readonly Message[] } | undefined;
  private inheritedTo = 0;
  private restatedAt = 0;
  /** A use of this ledger fell back to a window. */
  warned = false;

  /** The session is a fork: events up to this seq are its parent's. */
  forked(seq: number): void {
    this.inheritedTo = seq;
  }

  /** What the conversation said before this event may not hold any more: compacted contexts of it neither. */
  restated(seq: number): void {
    this.restatedAt = seq;
    this.newest = undefined;
  }

  /** True for a compacted context of what may not hold any more. */
  isRestated({ coversSeq }: Artefact): boolean {
    return coversSeq <= this.restatedAt;
  }

  /** True for what a fork has from its parent: its code may have said something else by then (matched by key alone). */
  isInherited(seq: number): boolean {
    return seq <= this.inheritedTo;
  }

  /** The last compacted context that was used. Of a fork that has used none yet: its parent's. */
  get artefact(): StoredArtefact | undefined {
    return this.newest;
  }

  /** The last one if this very session made it: its version can be told to the engine. */
  get own(): StoredArtefact | undefined {
    return this.newest !== undefined && !this.isInherited(this.newest.seq) ? this.newest : undefined;
  }

  /** The messages of the previous prompt. */
  get lastMessages(): readonly Message[] {
    return this.last?.messages ?? [];
  }

  /** Where the previous prompt's window began; undefined: it was none, or over another compacted context. */
  windowFrom(hash: Uint8Array): number | undefined {
    const used = this.last?.used;
    if (used?.source !== ContextSource.WINDOW || Buffer.compare(used.hash, hash) !== 0) return undefined;
    return Number(used.firstMessage);
  }

  /** Event that has a compacted context with this hash; 0: none. */
  seqOf(hash: Uint8Array): number {
    const { newest } = this;
    return newest !== undefined && Buffer.compare(newest.hash, hash) === 0 ? newest.seq : 0;
  }

  /** Returns the blocks of a recorded use; undefined: the event that has them is not in the ledger. */
  blocksOf(used: ContextUsed): readonly Block[] | undefined {
    if (used.artefact !== undefined) return blocksOf(used.artefact);
    return used.artefactSeq === 0n ? [] : this.bySeq.get(Number(used.artefactSeq));
  }

  /** Notes a use that was delivered. */
  note(seq: number, used: ContextUsed, blocks: readonly Block[], messages: readonly Message[]): void {
    this.last = { used, messages };
    this.warned ||= used.fallback && !this.isInherited(seq);
    if (used.artefact !== undefined) this.bySeq.set(seq, blocks);
    if (blocks.length === 0 || seq <= this.restatedAt) return;
    const at = used.artefact === undefined ? Number(used.artefactSeq) : seq;
    this.newest = {
      seq: at,
      version: used.version,
      hash: used.hash,
      blocks,
      coversMessages: Number(used.coversMessages),
      coversSeq: Number(used.coversSeq),
    };
  }
}

/** Reads the stored form of blocks. */
export function blocksOf(document: ContextDocument): Block[] {
  return document.blocks.map(({ kind, text, tokens, breakpoint }) => ({
    kind,
    text,
    tokens: Number(tokens),
    breakpoint,
  }));
}
