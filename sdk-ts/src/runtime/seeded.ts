/**
 * Random numbers that are the same on replay.
 *
 * Owns: their derivation. Never: keeps secrets; anybody who knows the session's root can compute them.
 *
 * Invariant W1: a number depends on root, scope, kind and how many of its kind were drawn in that scope before.
 */
import { hash } from "node:crypto";

/** Draws for one scope. */
export class Seeded {
  private randoms = 0;
  private uuids = 0;

  constructor(
    private readonly rootId: string,
    private readonly path: string,
  ) {}

  random(): number {
    const bytes = this.bytes("random", ++this.randoms);
    return Number(bytes.readBigUInt64BE() >> 11n) / 2 ** 53;
  }

  uuid(): string {
    const bytes = this.bytes("uuid", ++this.uuids).subarray(0, 16);
    bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x40, 6);
    bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
    const hex = bytes.toString("hex");
    return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
  }

  private bytes(kind: string, count: number): Buffer {
    return hash("sha256", `${this.rootId}\0${this.path}\0${kind}\0${count}`, "buffer");
  }
}
