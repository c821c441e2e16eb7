/**
 * A streamed answer as workflow code reads it.
 *
 * Owns: what was streamed so far, for any number of readers, each from the beginning. Never: talks to a provider.
 *
 * Invariants:
 * - S1 on replay the recorded text comes in the chunks it came in the first time.
 * - S2 readers see the end, or the failure, when the outcome is delivered, never before.
 * - S3 a run that is suspended leaves its readers waiting; nothing is thrown into workflow code.
 */
import type { LlmResponse } from "../gen/cellaflow/content/v1/content_pb.js";
import { fromStored } from "../runtime/messages.js";
import { textOf, toolCallsOf } from "./messages.js";
import type { FinalAnswer, StreamEvent } from "./types.js";

/**
 * A model's answer while it arrives. Iterate it for the text, or its `events` for all of it; `final` is the answer
 * once it is journaled. Text is provisional until then: decide on `final`, show the rest.
 */
export interface LlmStream extends AsyncIterable<string> {
  readonly events: AsyncIterable<StreamEvent>;
  readonly final: Promise<FinalAnswer>;
}

/** What was streamed, for its readers. */
export class StreamLog {
  private readonly log: StreamEvent[] = [];
  private ended = false;
  private failure: { thrown: unknown } | undefined;
  private waiting: (() => void)[] = [];

  /** Takes an event. */
  push(event: StreamEvent): void {
    this.log.push(event);
    this.wake();
  }

  /** A new attempt starts: what was streamed before does not count. */
  restart(): void {
    const last = this.log.at(-1);
    if (last !== undefined && last.type !== "reset") this.push({ type: "reset" });
  }

  /** Hands out a recorded answer (S1). */
  replay(response: LlmResponse): void {
    for (const event of eventsOf(response)) this.push(event);
  }

  /** Ties the readers' end to the outcome (S2); looks at it only once somebody reads. */
  follow(final: Promise<FinalAnswer>): LlmStream {
    let followed = false;
    const follow = (): Promise<FinalAnswer> => {
      if (!followed) this.attach(final);
      followed = true;
      return final;
    };
    const read = (): AsyncGenerator<StreamEvent, void, undefined> => {
      void follow();
      return this.read();
    };
    return {
      get final() {
        return follow();
      },
      events: { [Symbol.asyncIterator]: read },
      [Symbol.asyncIterator]: () => textsOf(read()),
    };
  }

  private attach(final: Promise<FinalAnswer>): void {
    final.then(
      ({ finishReason, usage }) => {
        this.ended = true;
        this.push({ type: "finish", finishReason, usage });
      },
      (thrown: unknown) => {
        this.failure = { thrown };
        this.wake();
      },
    );
  }

  private async *read(): AsyncGenerator<StreamEvent, void, undefined> {
    for (let next = 0; ; ) {
      const event = this.log[next];
      if (event !== undefined) {
        next += 1;
        yield event;
      } else if (this.failure !== undefined) throw this.failure.thrown;
      else if (this.ended) return;
      else await new Promise<void>((resolve) => this.waiting.push(resolve));
    }
  }

  private wake(): void {
    const waiting = this.waiting;
    this.waiting = [];
    for (const resolve of waiting) resolve();
  }
}

async function* textsOf(events: AsyncIterable<StreamEvent>): AsyncGenerator<string, void, undefined> {
  for await (const event of events) if (event.type === "text") yield event.text;
}

/** Returns what a recorded answer was streamed as; what is not text comes in one piece. */
export function eventsOf(response: LlmResponse): StreamEvent[] {
  if (response.message === undefined) return [];
  const message = fromStored(response.message);
  const reasoning = message.parts.flatMap((part): StreamEvent[] =>
    part.type === "reasoning" ? [{ type: "reasoning", text: part.text }] : [],
  );
  const texts = chunksOf(textOf(message), response.chunkLengths).map((text): StreamEvent => ({ type: "text", text }));
  const calls = toolCallsOf(message).map((call, index): StreamEvent => ({ type: "toolCall", index, ...call }));
  return [...reasoning, ...texts, ...calls];
}

/** Cuts a text into chunks of these lengths in UTF-8 bytes; what they leave is the last chunk. */
export function chunksOf(text: string, lengths: readonly number[]): string[] {
  const bytes = Buffer.from(text, "utf8");
  const chunks: string[] = [];
  let at = 0;
  for (const length of lengths) {
    if (length === 0 || at >= bytes.length) continue;
    chunks.push(bytes.toString("utf8", at, at + length));
    at += length;
  }
  if (at < bytes.length) chunks.push(bytes.toString("utf8", at));
  return chunks;
}
