/**
 * This process's connection to an engine: one channel, shared by its workers and clients.
 *
 * Owns: finding it, sharing it. Never: runs anything.
 *
 * Invariant N1: workers and clients with the same address and token share one channel, and so one instance.
 */
import { stderrLogger } from "../runtime/observer.js";
import { Channel } from "../transport/channel.js";
import { GrpcClient } from "../transport/grpc.js";
import { type ConnectionOptions, findConnection } from "../transport/lookup.js";

/** A connection that is shared within the process. */
export interface Shared {
  client: GrpcClient;
  channel: Channel;
}

const connections = new Map<string, Shared>();

/** Returns the connection these options lead to. @throws CellaflowError `no_connection`, `invalid_connection` */
export function connectionOf(options: ConnectionOptions = {}): Shared {
  const found = findConnection(options);
  const key = JSON.stringify([found.url, found.token, found.ca, found.cert, found.namespace]);
  let shared = connections.get(key);
  if (shared === undefined) {
    const client = new GrpcClient(found);
    shared = { client, channel: new Channel(client, stderrLogger) };
    connections.set(key, shared);
  }
  return shared;
}
