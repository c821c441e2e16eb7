/**
 * The only file that names @grpc/grpc-js: calls and the worker stream, over TLS, with the token.
 *
 * Owns: credentials, encoding, errors of calls. Never: retries or reconnects.
 */

import { isIP } from "node:net";
import { checkServerIdentity } from "node:tls";
import type { DescMethodServerStreaming, DescMethodUnary } from "@bufbuild/protobuf";
import {
  type DescMethod,
  type DescMethodBiDiStreaming,
  fromBinary,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { CellaflowError } from "../errors.js";
import { RefusalSchema } from "../gen/cellaflow/v1/common_pb.js";
import type { FoundConnection } from "./lookup.js";

/** Waits between the channel's own attempts to connect, in ms. Ours are longer; its must not be the bottleneck. */
const RECONNECT_MS_MIN = 50;
const RECONNECT_MS_MAX = 400;
/** A connection that answers no ping for this long is dead, in ms. */
const KEEPALIVE_MS = 5_000;
const MESSAGE_BYTES_MAX = 32 * 1_024 * 1_024;

/** An open bidirectional stream. */
export interface Duplex {
  /** Sends an encoded message. Returns false when the caller has to wait for `drained`. */
  write(message: Uint8Array): boolean;
  end(): void;
  cancel(): void;
}

/** What a stream tells. */
export interface DuplexHandlers<O> {
  message(message: O, bytes: number): void;
  drained(): void;
  /** Called once. */
  closed(error: CellaflowError | undefined): void;
}

/** A client of one engine. */
export class GrpcClient {
  private readonly client: grpc.Client;

  constructor(readonly found: FoundConnection) {
    const ca = found.ca === "" ? null : Buffer.from(found.ca);
    const { host, target } = addressOf(found);
    const identity = found.cert === "" ? undefined : { cert: Buffer.from(found.cert), key: Buffer.from(found.key) };
    const token = grpc.credentials.createFromMetadataGenerator((_params, done) => {
      const metadata = new grpc.Metadata();
      metadata.set("authorization", `Bearer ${found.token}`);
      done(null, metadata);
    });
    const credentials = grpc.credentials.combineChannelCredentials(sslFor(host, ca, identity), token);
    this.client = new grpc.Client(target, credentials, {
      // TLS has no server names that are addresses; which certificate is wanted is said in `sslFor`.
      ...(isIP(host) === 0 ? {} : { "grpc.ssl_target_name_override": "localhost" }),
      "grpc.initial_reconnect_backoff_ms": RECONNECT_MS_MIN,
      "grpc.min_reconnect_backoff_ms": RECONNECT_MS_MIN,
      "grpc.max_reconnect_backoff_ms": RECONNECT_MS_MAX,
      "grpc.keepalive_time_ms": KEEPALIVE_MS,
      "grpc.keepalive_timeout_ms": KEEPALIVE_MS,
      "grpc.max_receive_message_length": MESSAGE_BYTES_MAX,
      "grpc.max_send_message_length": MESSAGE_BYTES_MAX,
    });
  }

  /** Makes a unary call. */
  unary<M extends DescMethodUnary>(
    method: M,
    request: MessageShape<M["input"]>,
    options: { timeoutMs: number; signal?: AbortSignal | undefined },
  ): Promise<MessageShape<M["output"]>> {
    return new Promise((resolve, reject) => {
      const call = this.client.makeUnaryRequest(
        pathOf(method),
        (message: MessageShape<M["input"]>) => Buffer.from(toBinary(method.input, message)),
        (bytes: Buffer) => fromBinary(method.output, bytes),
        request,
        new grpc.Metadata(),
        { deadline: Date.now() + options.timeoutMs },
        (error, response) => {
          options.signal?.removeEventListener("abort", cancel);
          if (response !== undefined && error === null) resolve(response as MessageShape<M["output"]>);
          else reject(errorOf(error, this.found));
        },
      );
      const cancel = (): void => call.cancel();
      options.signal?.addEventListener("abort", cancel, { once: true });
      if (options.signal?.aborted) cancel();
    });
  }

  /** Makes a call that answers with a stream. */
  async *serverStream<M extends DescMethodServerStreaming>(
    method: M,
    request: MessageShape<M["input"]>,
    signal?: AbortSignal,
  ): AsyncGenerator<MessageShape<M["output"]>> {
    const call = this.client.makeServerStreamRequest(
      pathOf(method),
      (message: MessageShape<M["input"]>) => Buffer.from(toBinary(method.input, message)),
      (bytes: Buffer) => fromBinary(method.output, bytes),
      request,
      new grpc.Metadata(),
    );
    const cancel = (): void => call.cancel();
    signal?.addEventListener("abort", cancel, { once: true });
    try {
      for await (const message of call) yield message as MessageShape<M["output"]>;
    } catch (error) {
      throw errorOf(error as grpc.ServiceError, this.found);
    } finally {
      signal?.removeEventListener("abort", cancel);
      call.cancel();
    }
  }

  /** Opens a bidirectional stream. */
  duplex<M extends DescMethodBiDiStreaming>(method: M, handlers: DuplexHandlers<MessageShape<M["output"]>>): Duplex {
    const call = this.client.makeBidiStreamRequest(
      pathOf(method),
      (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength),
      (bytes: Buffer) => ({ message: fromBinary(method.output, bytes), bytes: bytes.length }),
      new grpc.Metadata(),
    );
    let closed = false;
    const close = (error: CellaflowError | undefined): void => {
      if (closed) return;
      closed = true;
      handlers.closed(error);
    };
    call.on("data", ({ message, bytes }: { message: MessageShape<M["output"]>; bytes: number }) =>
      handlers.message(message, bytes),
    );
    call.on("drain", () => handlers.drained());
    call.on("error", (error) => close(errorOf(error as grpc.ServiceError, this.found)));
    call.on("end", () => close(undefined));
    return { write: (message) => call.write(message), end: () => call.end(), cancel: () => call.cancel() };
  }

  close(): void {
    this.client.close();
  }
}

function pathOf(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

/** Credentials of a server; its certificate has to name the host that was asked for. */
function sslFor(
  host: string,
  ca: Buffer | null,
  { key, cert }: { key: Buffer | null; cert: Buffer | null } = { key: null, cert: null },
): grpc.ChannelCredentials {
  if (isIP(host) === 0) return grpc.credentials.createSsl(ca, key, cert);
  return grpc.credentials.createSsl(ca, key, cert, {
    checkServerIdentity: (_name, cert) => checkServerIdentity(host, cert),
  });
}

function addressOf(found: FoundConnection): { host: string; target: string } {
  const text = found.url.includes("://") ? found.url : `https://${found.url}`;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol === "https:" && url.hostname !== "") {
    const host = url.hostname.replace(/^\[|\]$/g, "");
    return { host, target: `${url.hostname}:${url.port === "" ? "443" : url.port}` };
  }
  throw new CellaflowError(
    "invalid_connection",
    `"${found.url}" (from ${found.source}) is no address of an engine`,
    "write it as https://host:port; the engine serves TLS only",
  );
}

/** Codes of gRPC that stand for no reason of the engine's own. */
const CODES: Readonly<Record<number, string>> = {
  [grpc.status.CANCELLED]: "cancelled",
  [grpc.status.DEADLINE_EXCEEDED]: "timeout",
  [grpc.status.UNAVAILABLE]: "unavailable",
  [grpc.status.UNAUTHENTICATED]: "unauthenticated",
  [grpc.status.PERMISSION_DENIED]: "permission_denied",
  [grpc.status.NOT_FOUND]: "not_found",
  [grpc.status.UNIMPLEMENTED]: "unimplemented",
  [grpc.status.RESOURCE_EXHAUSTED]: "unavailable",
  [grpc.status.INVALID_ARGUMENT]: "invalid_argument",
};

function errorOf(error: grpc.ServiceError | null, found: FoundConnection): CellaflowError {
  const status = error?.code ?? grpc.status.UNKNOWN;
  const refusal = refusalOf(error);
  if (refusal !== undefined) return refusal;
  const code = CODES[status] ?? "engine_error";
  const retryable = code === "unavailable" || code === "timeout";
  const said = error?.details === undefined || error.details === "" ? "no details" : error.details;
  const action =
    code === "unavailable"
      ? `check that the engine at ${found.url} (from ${found.source}) is running`
      : "see the engine's log if this is unexpected";
  return new CellaflowError(code, said, action, { retryable, cause: error });
}

/** The engine's own refusal travels in the status details. */
function refusalOf(error: grpc.ServiceError | null): CellaflowError | undefined {
  const details = error?.metadata?.get("grpc-status-details-bin")[0];
  if (!Buffer.isBuffer(details)) return undefined;
  const bytes = anyIn(details);
  if (bytes === undefined) return undefined;
  const { code, message, retryable, retryAfterMs } = fromBinary(RefusalSchema, bytes);
  return refusalError(code, message, retryable, Number(retryAfterMs));
}

/** Makes the error of a refusal; the engine's messages start with their code already, or not: both read the same. */
export function refusalError(code: string, message: string, retryable: boolean, retryAfterMs: number): CellaflowError {
  const text = message.startsWith(`${code}: `) ? message.slice(code.length + 2) : message;
  const cutAt = text.lastIndexOf("; ");
  const [problem, action] = cutAt < 0 ? [text, "see the engine's log"] : [text.slice(0, cutAt), text.slice(cutAt + 2)];
  return new CellaflowError(code, problem, action, { retryable, data: { retryAfterMs } });
}

/** Returns the content of the Refusal in an encoded google.rpc.Status (field 3: repeated Any). */
function anyIn(status: Buffer): Uint8Array | undefined {
  for (const any of lengthFields(status, 3)) {
    const url = Buffer.from(lengthFields(any, 1)[0] ?? []).toString();
    if (url.endsWith("/cellaflow.v1.Refusal")) return lengthFields(any, 2)[0] ?? new Uint8Array(0);
  }
  return undefined;
}

function lengthFields(bytes: Uint8Array, wanted: number): Uint8Array[] {
  const found: Uint8Array[] = [];
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; at < bytes.length; shift += 7) {
      const byte = bytes[at++] ?? 0;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) break;
    }
    return value;
  };
  while (at < bytes.length) {
    const tag = varint();
    if ((tag & 7) === 0) varint();
    else if ((tag & 7) === 2) {
      const length = varint();
      if (tag >> 3 === wanted) found.push(bytes.subarray(at, at + length));
      at += length;
    } else break;
  }
  return found;
}
