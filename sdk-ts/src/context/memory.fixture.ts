/** A compactor and its store in memory, for tests of `ctx.context` without an engine. */
import { hash } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { ConversationDeltaSchema } from "../gen/cellaflow/content/v1/content_pb.js";
import {
  ContextBlockSchema,
  ContextVersionSchema,
  type GetContextRequest,
  type GetContextResponse,
  GetContextResponseSchema,
} from "../gen/cellaflow/v1/context_pb.js";
import type { Event } from "../gen/cellaflow/v1/event_pb.js";
import { payloadDocument } from "../runtime/payloads.js";
import type { ContextSource } from "./source.js";

/** Says "S: n messages" for what it covers. */
export class MemoryCompactor implements ContextSource {
  readonly asked: GetContextRequest[] = [];
  unattended = false;
  refused = "";
  /** False: nothing is folded when somebody waits. */
  folds = true;
  /** How long its text is. */
  words = 10;
  private covered: { seq: number; messages: number; version: number } | undefined;

  constructor(private readonly events: readonly Event[]) {}

  async get(request: GetContextRequest): Promise<GetContextResponse> {
    this.asked.push(request);
    await new Promise(setImmediate);
    if (request.waitMs > 0n && this.folds) this.fold(Number(request.atLeastSeq));
    const { unattended, refused, covered } = this;
    const response = create(GetContextResponseSchema, { unattended, refused });
    if (covered === undefined) return response;
    const text = `${covered.seq}: ${covered.messages} messages ${"word ".repeat(this.words)}`;
    response.version = create(ContextVersionSchema, {
      version: covered.version,
      coversSeq: BigInt(covered.seq),
      coversMessages: BigInt(covered.messages),
      hash: hash("sha256", text, "buffer"),
    });
    if (request.knownVersion === covered.version) return response;
    response.blocks = ["Rules.", text].map((text, n) =>
      create(ContextBlockSchema, {
        kind: n + 1,
        text,
        tokens: BigInt(n === 0 ? 2 : 12 + this.words),
        breakpoint: true,
      }),
    );
    return response;
  }

  /** Folds all messages up to an event. */
  fold(seq: number): void {
    let messages = 0;
    for (const event of this.events) {
      if (Number(event.seq) > seq || event.conversationDelta === undefined) continue;
      const { keep, appended } = payloadDocument(event.conversationDelta, ConversationDeltaSchema);
      messages = keep + appended.length;
    }
    this.covered = { seq, messages, version: (this.covered?.version ?? 0) + 1 };
  }

  /** What it has is lost, and numbers begin anew. */
  forget(): void {
    this.covered = undefined;
  }
}
