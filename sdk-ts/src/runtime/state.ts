/**
 * `ctx.state`: values that workflow code keeps, and what of them the ledger lacks.
 *
 * Owns: the values, the delta of the next append. Never: decides when an append is made.
 *
 * Invariants:
 * - S1 only workflow code writes; replay re-executes the writes.
 * - S2 a delta carries exactly the keys whose encoded value differs from what the ledger has; so writes that replay
 *   repeats are not committed again.
 */
import { create } from "@bufbuild/protobuf";
import { MisuseError } from "../errors.js";
import {
  type StateDelta,
  StateDeltaSchema,
  type StateWrite,
  StateWriteSchema,
} from "../gen/cellaflow/content/v1/content_pb.js";
import type { PayloadCodec } from "../values/hooks.js";

/** Values that workflow code keeps under names of its own. */
export interface State {
  /** Returns a copy of the value; undefined: there is none. */
  get<T = unknown>(key: string): T | undefined;
  /** Sets a value. It is committed with the next event of this run. @throws ValueError if it cannot be stored */
  set(key: string, value: unknown): void;
  delete(key: string): void;
  has(key: string): boolean;
  keys(): string[];
}

const DELETED = null;
type Bytes = Uint8Array | typeof DELETED;

/** The values of a run, or of a zone above them. */
export class StateStore implements State {
  private readonly values = new Map<string, Bytes>();
  private readonly committed = new Map<string, Uint8Array>();
  private dirty = new Set<string>();

  constructor(
    private readonly codec: PayloadCodec,
    private readonly guard: (call: string) => void,
    private readonly below?: StateStore,
  ) {}

  get<T = unknown>(key: string): T | undefined {
    this.guard("state.get");
    const bytes = this.bytes(key);
    return bytes === undefined || bytes === DELETED ? undefined : (this.codec.decode(bytes) as T);
  }

  set(key: string, value: unknown): void {
    this.guard("state.set");
    if (typeof key !== "string" || key === "") {
      throw new MisuseError("invalid_state_key", "a key of ctx.state is not a non-empty text", "name it with a text");
    }
    this.write(key, this.codec.encode(value, { kind: "state", name: key }));
  }

  delete(key: string): void {
    this.guard("state.delete");
    this.write(key, DELETED);
  }

  has(key: string): boolean {
    this.guard("state.has");
    return (this.bytes(key) ?? DELETED) !== DELETED;
  }

  keys(): string[] {
    this.guard("state.keys");
    return [...this.names()].filter((key) => (this.bytes(key) ?? DELETED) !== DELETED).sort();
  }

  /** Notes what a recorded event committed. */
  noteRecorded(delta: StateDelta): void {
    for (const write of delta.writes) {
      if (write.value === undefined) this.committed.delete(write.key);
      else this.committed.set(write.key, write.value);
    }
  }

  /** Takes what the next append has to carry; undefined: nothing. */
  takeDelta(): StateDelta | undefined {
    if (this.dirty.size === 0) return undefined;
    const writes: StateWrite[] = [];
    for (const key of this.dirty) this.collect(key, writes);
    this.dirty.clear();
    if (writes.length === 0) return undefined;
    const delta = create(StateDeltaSchema, { writes });
    this.noteRecorded(delta);
    return delta;
  }

  /** Returns all values, as a delta to nothing. */
  whole(): StateDelta {
    const writes: StateWrite[] = [];
    for (const [key, value] of this.values)
      if (value !== DELETED) writes.push(create(StateWriteSchema, { key, value }));
    return create(StateDeltaSchema, { writes });
  }

  /** Applies what a zone committed: the ledger has it already. */
  apply(delta: StateDelta): void {
    this.noteRecorded(delta);
    for (const write of delta.writes) {
      this.values.set(write.key, write.value ?? DELETED);
      this.dirty.delete(write.key);
    }
  }

  private collect(key: string, writes: StateWrite[]): void {
    const now = this.values.get(key) ?? DELETED;
    const before = this.committed.get(key);
    if (now === DELETED) {
      // A zone does not know what is below when it commits: it says its deletions.
      if (before !== undefined || this.below !== undefined) writes.push(create(StateWriteSchema, { key }));
    } else if (before === undefined || Buffer.compare(before, now) !== 0) {
      writes.push(create(StateWriteSchema, { key, value: now }));
    }
  }

  private write(key: string, bytes: Bytes): void {
    this.values.set(key, bytes);
    this.dirty.add(key);
  }

  private bytes(key: string): Bytes | undefined {
    return this.values.has(key) ? this.values.get(key) : this.below?.bytes(key);
  }

  private names(): Set<string> {
    return new Set([...(this.below?.names() ?? []), ...this.values.keys()]);
  }
}
