/**
 * Large payloads as pieces, in both directions.
 *
 * Owns: cutting and joining. Never: decides when something is sent.
 *
 * Invariants:
 * - P1 a payload of more than {@link PIECE_BYTES_MAX} is replaced by a transfer id; its pieces go before its message.
 * - P2 what was received is whole before anybody sees its message.
 */
import { create } from "@bufbuild/protobuf";
import { type Payload, type PayloadPiece, PayloadPieceSchema, PayloadSchema } from "../gen/cellaflow/v1/common_pb.js";

/** Largest piece, and largest payload that travels inside its message, in bytes. */
export const PIECE_BYTES_MAX = 64 * 1_024;

const PAYLOAD: string = PayloadSchema.typeName;

/** Cuts what is sent. */
export class Cutter {
  private nextTransfer = 1n;

  /** Returns the message with its large payloads replaced, and their pieces in order. */
  cut<T extends object>(message: T): { message: T; pieces: PayloadPiece[] } {
    const pieces: PayloadPiece[] = [];
    const cut = mapPayloads(message, (payload) => {
      if (payload.body.case !== "data" || payload.body.value.length <= PIECE_BYTES_MAX) return payload;
      const transferId = this.nextTransfer++;
      pieces.push(...piecesOf(transferId, payload.body.value));
      const { format, codec, digest } = payload;
      const sizeBytes = BigInt(payload.body.value.length);
      return create(PayloadSchema, {
        format,
        codec,
        digest,
        sizeBytes,
        body: { case: "transferId", value: transferId },
      });
    });
    return { message: cut, pieces };
  }
}

/** Joins what is received. */
export class Joiner {
  private readonly transfers = new Map<bigint, Uint8Array[]>();

  take(piece: PayloadPiece): void {
    const parts = this.transfers.get(piece.transferId);
    if (parts === undefined) this.transfers.set(piece.transferId, [piece.data]);
    else parts.push(piece.data);
  }

  /** Puts joined payloads where the message refers to them. */
  join<T extends object>(message: T): T {
    if (this.transfers.size === 0) return message;
    return mapPayloads(message, (payload) => {
      if (payload.body.case !== "transferId") return payload;
      const id = payload.body.value;
      const parts = this.transfers.get(id);
      if (parts === undefined) return payload;
      this.transfers.delete(id);
      return { ...payload, body: { case: "data", value: Buffer.concat(parts) } };
    });
  }
}

function* piecesOf(transferId: bigint, bytes: Uint8Array): Generator<PayloadPiece> {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES_MAX) {
    const end = Math.min(at + PIECE_BYTES_MAX, bytes.length);
    yield create(PayloadPieceSchema, { transferId, data: bytes.subarray(at, end), last: end === bytes.length });
  }
}

/** Returns a message whose payloads were mapped; what does not change is shared, never modified. */
export function mapPayloads<T>(value: T, map: (payload: Payload) => Payload): T {
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return value;
  if ((value as { $typeName?: unknown }).$typeName === PAYLOAD) return map(value as unknown as Payload) as T;
  if (Array.isArray(value)) {
    const mapped = value.map((item: unknown) => mapPayloads(item, map));
    return mapped.some((item, index) => item !== value[index]) ? (mapped as T) : value;
  }
  let changed: Record<string, unknown> | undefined;
  for (const [name, part] of Object.entries(value)) {
    const mapped: unknown = mapPayloads(part, map);
    if (mapped === part) continue;
    changed ??= { ...value } as Record<string, unknown>;
    changed[name] = mapped;
  }
  return (changed ?? value) as T;
}
