/**
 * Model requests as differences to what the ledger has, so that n turns cost O(n) on the wire and on disk.
 *
 * Owns: which recorded request or conversation a new one is based on. Never: sends anything.
 *
 * Invariants:
 * - B1 a base is durable with the request itself: the session's conversation as of its event, a request whose event's
 *   seq is known, or an earlier one of the same attempt of the same zone, which is in the same event (seq 0).
 * - B2 the running hash commits to the whole list, whatever the base.
 * - B3 settings that equal recorded ones are named, not repeated.
 */
import { hash } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import {
  type LlmRequest,
  LlmRequestSchema,
  type Message as StoredMessage,
} from "../gen/cellaflow/content/v1/content_pb.js";
import { type Conversation, runningHash } from "../runtime/conversation.js";
import type { CallHost, RequestPlace } from "../runtime/internals.js";
import { type Message, messageBytes, toStored } from "../runtime/messages.js";
import type { TextRegistry } from "../runtime/texts.js";

/** How many requests of a session can be a base; the oldest are forgotten first. */
export const BASE_REQUESTS_MAX = 16;
/** How many different settings of a session are remembered; the oldest are forgotten first. */
export const BASE_PARAMS_MAX = 256;

const EMPTY_HASH = new Uint8Array(32);
const encoder = new TextEncoder();

interface Known {
  place: RequestPlace;
  hashes: readonly Uint8Array[];
  /** Where it was made: a zone's host is one attempt of it. */
  host: object;
}

interface KnownParams {
  place: RequestPlace;
  host: object;
}

/** A request that is about to be made. */
export interface PreparedRequest {
  /** The whole list, texts in full. */
  readonly messages: readonly StoredMessage[];
  /** What stands for list and settings in the input: it is kept with every call, so its size must not grow. */
  readonly summary: { messages: number; messagesHash: string; paramsHash: string };
  /** Builds the stored form; as late as possible, because more may be recorded by then. */
  stored(host: object): LlmRequest;
  /** Notes where it was recorded. */
  recorded(host: object, place: RequestPlace): void;
}

/** The requests of one session. */
export class RequestBook {
  private static readonly books = new WeakMap<Conversation, RequestBook>();
  private readonly known: Known[] = [];
  private readonly params = new Map<string, KnownParams>();

  private constructor(
    private readonly conversation: Conversation,
    private readonly texts: TextRegistry,
  ) {}

  /** Returns the book of the host's session. */
  static of(host: Pick<CallHost, "conversation" | "texts">): RequestBook {
    const open = RequestBook.books.get(host.conversation);
    if (open !== undefined) return open;
    const book = new RequestBook(host.conversation, host.texts);
    RequestBook.books.set(host.conversation, book);
    return book;
  }

  /** Prepares a request. @param params everything else of it, as JSON text */
  prepare(messages: readonly Message[], params: string): PreparedRequest {
    const list = messages.map((message, index) => this.storedForm(message, index));
    const hashes = this.hashesOf(list);
    const last = hashes.at(-1) ?? EMPTY_HASH;
    return {
      messages: list,
      summary: {
        messages: list.length,
        messagesHash: Buffer.from(last).toString("hex"),
        paramsHash: hash("sha256", params, "hex"),
      },
      stored: (host) => this.stored(host, list, hashes, params),
      recorded: (host, place) => this.record({ host, place, hashes }, params),
    };
  }

  private storedForm(message: Message, index: number): StoredMessage {
    const same = this.conversation.messages[index] === message ? this.conversation.at(index) : undefined;
    return same ?? toStored(message);
  }

  private hashesOf(list: readonly StoredMessage[]): Uint8Array[] {
    const shared = this.sharedWithConversation(list);
    const hashes: Uint8Array[] = [];
    for (const [index, message] of list.entries()) {
      const known = index < shared ? this.conversation.hashOf(index + 1) : undefined;
      hashes.push(known ?? runningHash(hashes[index - 1] ?? EMPTY_HASH, message));
    }
    return hashes;
  }

  private sharedWithConversation(list: readonly StoredMessage[]): number {
    let shared = 0;
    for (; shared < list.length; shared++) {
      const ours = list[shared];
      const theirs = this.conversation.at(shared);
      if (ours === undefined || theirs === undefined) break;
      if (ours !== theirs && Buffer.compare(messageBytes(ours), messageBytes(theirs)) !== 0) break;
    }
    return shared;
  }

  private stored(
    host: object,
    list: readonly StoredMessage[],
    hashes: readonly Uint8Array[],
    params: string,
  ): LlmRequest {
    const { base, keep } = this.baseFor(host, list, hashes);
    const known = this.params.get(params);
    return create(LlmRequestSchema, {
      base,
      keep,
      appended: list.slice(keep).map((message) => this.texts.withReferences(message)),
      runningHash: hashes.at(-1) ?? EMPTY_HASH,
      messages: list.length,
      ...(isNameable(known, host) ? { paramsOf: refTo(known.place) } : { params: encoder.encode(params) }),
    });
  }

  // The conversation wins a tie: a reader of it need not follow a chain of requests.
  private baseFor(
    host: object,
    list: readonly StoredMessage[],
    hashes: readonly Uint8Array[],
  ): { base: LlmRequest["base"]; keep: number } {
    let keep = this.sharedWithConversation(list);
    let base: LlmRequest["base"] = keep > 0 ? { case: "conversation", value: true } : { case: "empty", value: true };
    for (const known of this.known) {
      if (!isNameable(known, host)) continue;
      const shared = sharedHashes(known.hashes, hashes);
      if (shared <= keep) continue;
      keep = shared;
      base = { case: "request", value: refTo(known.place) };
    }
    return { base, keep };
  }

  private record(known: Known, params: string): void {
    this.known.unshift(known);
    if (this.known.length > BASE_REQUESTS_MAX) this.known.pop();
    const before = this.params.get(params);
    if (before !== undefined && before.place.seq > 0) return;
    this.params.set(params, known);
    if (this.params.size > BASE_PARAMS_MAX) this.forgetOldestParams();
  }

  private forgetOldestParams(): void {
    const oldest = this.params.keys().next();
    if (!oldest.done) this.params.delete(oldest.value);
  }
}

// B1: inside a zone the seq stays 0 until the zone has committed.
function isNameable<K extends KnownParams>(known: K | undefined, host: object): known is K {
  return known !== undefined && (known.place.seq > 0 || known.host === host);
}

function refTo(place: RequestPlace) {
  return { $typeName: "cellaflow.content.v1.RequestRef" as const, seq: BigInt(place.seq), call: place.call };
}

// Equal running hashes stand for equal lists up to there, so the last equal one is found by halving.
function sharedHashes(a: readonly Uint8Array[], b: readonly Uint8Array[]): number {
  let low = 0;
  let high = Math.min(a.length, b.length);
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    const equal = Buffer.compare(a[middle - 1] ?? EMPTY_HASH, b[middle - 1] ?? EMPTY_HASH) === 0;
    if (equal) low = middle;
    else high = middle - 1;
  }
  return low;
}
