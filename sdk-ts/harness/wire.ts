/**
 * The few calls of the engine that the demo and the kill matrix make themselves: they watch sessions as any client could.
 */
import {
  create,
  type DescMessage,
  type DescMethodStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { SessionService } from "#sdk/gen/cellaflow/v1/session_pb.js";

/** What a client needs to reach an engine: the content of its connection file. */
export interface Connection {
  url: string;
  token: string;
  ca: string;
  pid?: number;
}

/** How long one call may take, in ms. */
const CALL_MS_MAX = 10_000;

/** A client of one engine; it survives the engine's restarts. */
export class Wire {
  private readonly client: grpc.Client;

  constructor(connection: Connection) {
    const authorise = grpc.credentials.createFromMetadataGenerator((_options, done) => {
      const metadata = new grpc.Metadata();
      metadata.set("authorization", `Bearer ${connection.token}`);
      done(null, metadata);
    });
    const tls = grpc.credentials.createSsl(Buffer.from(connection.ca));
    const credentials = grpc.credentials.combineChannelCredentials(tls, authorise);
    this.client = new grpc.Client(new URL(connection.url).host, credentials, {
      // The certificate has this name too; an address is no TLS server name.
      "grpc.ssl_target_name_override": "localhost",
      // The engine is killed often here: find it again quickly.
      "grpc.initial_reconnect_backoff_ms": 50,
      "grpc.min_reconnect_backoff_ms": 50,
      "grpc.max_reconnect_backoff_ms": 200,
      "grpc.max_receive_message_length": -1,
    });
  }

  /** Streams a session's events; ends or throws when the engine goes away. */
  subscribe(request: MessageInitShape<typeof SessionService.method.subscribeSession.input>, signal: AbortSignal) {
    return this.stream(SessionService.method.subscribeSession, request, signal);
  }

  /** Makes one call. */
  unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
  ): Promise<MessageShape<O>> {
    return new Promise((resolve, reject) => {
      this.client.makeUnaryRequest(
        `/${method.parent.typeName}/${method.name}`,
        (message: MessageShape<I>) => Buffer.from(toBinary(method.input, message)),
        (bytes: Buffer) => fromBinary(method.output, bytes),
        create(method.input, request),
        new grpc.Metadata(),
        { deadline: Date.now() + CALL_MS_MAX },
        (error, answer) => (error === null && answer !== undefined ? resolve(answer) : reject(error as Error)),
      );
    });
  }

  close(): void {
    this.client.close();
  }

  /** Makes a call that is answered by a stream. */
  async *stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodStreaming<I, O>,
    request: MessageInitShape<I>,
    signal: AbortSignal,
  ): AsyncGenerator<MessageShape<O>> {
    const call = this.client.makeServerStreamRequest(
      `/${method.parent.typeName}/${method.name}`,
      (message: MessageShape<I>) => Buffer.from(toBinary(method.input, message)),
      (bytes: Buffer) => fromBinary(method.output, bytes),
      create(method.input, request),
    );
    const cancel = (): void => call.cancel();
    signal.addEventListener("abort", cancel);
    try {
      for await (const message of call) yield message as MessageShape<O>;
    } finally {
      signal.removeEventListener("abort", cancel);
      call.cancel();
    }
  }
}
