/**
 * The worker channel: one stream of this process for all its sessions.
 *
 * Owns: connecting, saying hello, binding sessions again after a lost connection, heartbeats.
 * Never: knows what an append means (`link.ts`), or what is run.
 *
 * Invariants:
 * - C1 losing the connection aborts nothing: bound sessions stay, what is unacknowledged is sent again.
 * - C2 a bound session goes on at the same epoch, or its run is fenced.
 * - C3 attempts to connect are at most a third of the lease's TTL apart.
 * - C4 what the engine may not buffer (credit) waits here; what is unacknowledged is bounded, and new work waits for room.
 * - C5 a process that stood still for so long that its leases may have run out believes nothing it was told before, and
 *   lets nothing begin, until its sessions are bound again.
 * - C6 leases of another incarnation of the ledger (it was restored from a backup) are given up, never bound again.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import type { CellaflowError } from "../errors.js";
import { type StartSessionRequest, StartSessionRequestSchema } from "../gen/cellaflow/v1/engine_pb.js";
import {
  type Assigned,
  AttachSchema,
  CapacitySchema,
  CreditSchema,
  type EngineMessage,
  GoodbyeSchema,
  type Nack,
  StartSchema,
  type Welcome,
  type WorkerMessage,
  WorkerService,
} from "../gen/cellaflow/v1/worker_pb.js";
import type { EngineLimits } from "../runtime/journal.js";
import type { Logger } from "../runtime/observer.js";
import type { ServedWorkflow } from "../runtime/version.js";
import { Awake } from "./awake.js";
import { type Binding, Binds } from "./binds.js";
import type { Duplex, GrpcClient } from "./grpc.js";
import { Heartbeat } from "./heartbeat.js";
import { SessionLink } from "./link.js";
import { encodeRequest, helloMessage, limitsOf, workerMessage } from "./messages.js";
import { Joiner } from "./pieces.js";
import { Sending } from "./sending.js";

/** Bytes of engine messages that are buffered here before more credit is granted. */
const CREDIT_BYTES = 8 * 1_024 * 1_024;
/** Unacknowledged bytes of all sessions after which nothing new is started. */
const BUFFER_BYTES_MAX = 32 * 1_024 * 1_024;
/** How long a start or attach waits for an engine that cannot be reached, in ms. Bound runs wait for as long as it takes. */
const BIND_MS_MAX = 30_000;
const REFUSED_FOR_GOOD = new Set([
  "unauthenticated",
  "permission_denied",
  "unimplemented",
  "namespace_mismatch",
  "invalid_argument",
]);
const BACKOFF_MS_FIRST = 50;
const BACKOFF_MS_MAX = 2_000;
/** A stream without any use is closed after this, in ms. */
const IDLE_MS = 200;

/** What a worker serves. */
export interface Serving {
  workflows: readonly ServedWorkflow[];
  /** Free slots now. */
  free(): number;
  /** A session was dispatched to this worker. */
  assigned(binding: Binding): void;
  /** The engine does not take this worker: wrong token, role or namespace. */
  refused(error: CellaflowError): void;
}

type State = "closed" | "connecting" | "open";

export class Channel {
  /** Minted once per process incarnation; survives reconnects. */
  readonly instance = randomUUID();
  limits: EngineLimits | undefined;
  private state: State = "closed";
  private stream: Duplex | undefined;
  private streamNumber = 0;
  private incarnation = "";
  private nextRequest = 1n;
  private readonly binds = new Binds(this);
  private readonly links = new Map<string, SessionLink>();
  private readonly owners = new Map<bigint, SessionLink>();
  private readonly sending = new Sending(() => this.links.size);
  private joiner = new Joiner();
  private serving: Serving | undefined;
  /** Bytes that were received since credit was granted. */
  private taken = 0;
  private failures = 0;
  /** When the present outage began. */
  private lostMs = 0;
  private unackedBytes = 0;
  private readonly roomQueue: (() => void)[] = [];
  private readonly heartbeat: Heartbeat;
  private readonly awake = new Awake();
  private idleTimer: NodeJS.Timeout | undefined;
  private reconnectTimer: NodeJS.Timeout | undefined;

  constructor(
    readonly client: GrpcClient,
    private readonly log: Logger,
  ) {
    this.heartbeat = new Heartbeat(client, this.instance, log);
  }

  // ---- for workers and clients ----

  /** Takes sessions by dispatch from now on; undefined: no more. */
  serve(serving: Serving | undefined): void {
    this.serving = serving;
    if (serving === undefined) {
      this.sayCapacity(0);
      this.checkIdle();
    } else if (this.state === "closed") this.connect();
    else this.reopen();
  }

  /** Says how many further sessions are taken. */
  sayCapacity(free: number): void {
    if (this.state === "open") this.sending.control({ case: "capacity", value: create(CapacitySchema, { free }) });
  }

  /** Starts a session, or binds to the one its key names, and takes its lease in the same frame. */
  start(request: StartSessionRequest, signal?: AbortSignal): Promise<Binding> {
    const withId = create(StartSessionRequestSchema, {
      ...request,
      instance: this.instance,
      dedupeId: randomBytes(16),
    });
    return this.binds.ask(signal, (requestId) =>
      workerMessage({ case: "start", value: create(StartSchema, { requestId, request: withId }) }),
    );
  }

  /** Binds to a session whose lease is free. */
  attach(sessionId: string, version: string, signal?: AbortSignal): Promise<Binding> {
    return this.binds.ask(signal, (requestId) =>
      workerMessage({ case: "attach", value: create(AttachSchema, { requestId, sessionId, fromSeq: 1n, version }) }),
    );
  }

  /** Learns what a session is, with the salt that its inputs are compared with. Nothing is leased or appended. */
  async look(sessionId: string, signal?: AbortSignal): Promise<Assigned> {
    const { assigned } = await this.binds.ask(signal, (requestId) =>
      workerMessage({ case: "attach", value: create(AttachSchema, { requestId, sessionId, look: true }) }),
    );
    return assigned;
  }

  /** Says goodbye and closes the stream. */
  close(nothingInFlight: boolean): void {
    if (this.state === "open") {
      this.sending.control({ case: "goodbye", value: create(GoodbyeSchema, { nothingInFlight }) });
      this.sending.flush();
    }
    this.shut();
  }

  /** Keeps the leases even if this thread is blocked from now on (see `heartbeat.ts`). */
  outliveBlocking(): void {
    this.heartbeat.outliveBlocking();
  }

  // ---- for links ----

  get isOpen(): boolean {
    return this.state === "open";
  }

  get isFull(): boolean {
    return this.unackedBytes >= BUFFER_BYTES_MAX;
  }

  whenRoom(proceed: () => void): void {
    this.roomQueue.push(proceed);
  }

  /** Looks whether this process stood still; if so, every session is doubted and bound again (C5). */
  checkAwake(): boolean {
    if (!this.awake.slept) return false;
    this.awake.note();
    this.log("warn", "this process stood still for long: its sessions are bound again before anything begins", {});
    for (const link of this.links.values()) link.doubt();
    if (this.state === "open") this.reopen();
    return true;
  }

  /** Names a request; its answer goes to `owner`. */
  requestId(owner?: SessionLink): bigint {
    const id = this.nextRequest++;
    if (owner !== undefined) this.owners.set(id, owner);
    return id;
  }

  /** The request was answered. */
  answered(requestId: bigint): void {
    this.owners.delete(requestId);
  }

  /** Counts what is unacknowledged. */
  countBytes(bytes: number): void {
    this.unackedBytes += bytes;
    if (bytes < 0 && this.unackedBytes < BUFFER_BYTES_MAX / 2) {
      for (const proceed of this.roomQueue.splice(0)) proceed();
    }
  }

  /** Sends a message of a session; `bytes` is about what it carries. */
  send(session: string, message: WorkerMessage, bytes: number): void {
    this.sending.message(session, message, bytes);
  }

  /** Gives a lease back that was granted here and has no run. */
  giveBack(assigned: Assigned): void {
    const link = new SessionLink(this, assigned);
    this.links.set(link.sessionId, link);
    void link.release("suspended").then(() => link.close());
  }

  /** A run is over: its session is not bound here any more. */
  forget(link: SessionLink): void {
    if (this.links.get(link.sessionId) === link) this.links.delete(link.sessionId);
    this.checkIdle();
  }

  // ---- connecting ----

  connect(): void {
    if (this.state !== "closed") return;
    clearTimeout(this.reconnectTimer);
    this.state = "connecting";
    this.joiner = new Joiner();
    this.sending.clear();
    const number = ++this.streamNumber;
    const current = (act: () => void): void => {
      if (number === this.streamNumber) act();
    };
    this.stream = this.client.duplex(WorkerService.method.channel, {
      message: (response, bytes) => current(() => this.received(response.messages, bytes)),
      drained: () => current(() => this.sending.drained()),
      closed: (error) => current(() => this.lost(error)),
    });
    this.stream.write(encodeRequest([this.hello()]));
  }

  /** Opens another stream in place of this one: what is served is said in the first message. */
  private reopen(): void {
    this.streamNumber++;
    this.stream?.cancel();
    this.stream = undefined;
    this.sending.close();
    this.state = "closed";
    this.heartbeat.stop();
    this.connect();
  }

  private hello(): WorkerMessage {
    return helloMessage({
      instance: this.instance,
      workflows: this.serving?.workflows ?? [],
      capacity: this.serving?.free() ?? 0,
      creditBytes: CREDIT_BYTES,
      incarnation: this.incarnation,
      namespace: this.client.found.namespace,
    });
  }

  private welcomed(welcome: Welcome): void {
    const restored = this.incarnation !== "" && this.incarnation !== welcome.incarnation;
    this.incarnation = welcome.incarnation;
    if (restored) return this.startOver();
    if (this.failures > 0) this.log("info", "connected to the engine again", { attempts: this.failures });
    this.state = "open";
    this.failures = 0;
    this.limits = limitsOf(welcome);
    this.sending.open(this.stream, Number(welcome.creditBytes));
    this.taken = 0;
    this.heartbeat.start(this.limits.leaseTtlMs / 3, () => this.stream?.cancel());
    // A lease was renewed up to a third of its time ago, and on a busy machine that may have taken another third.
    this.awake.watch(this.limits.leaseTtlMs / 3);
    for (const link of this.links.values()) link.rebind();
    this.binds.sendAll();
    this.sending.flush();
  }

  /** The ledger was restored: no lease from before counts, and this stream said that it had some (C6). */
  private startOver(): void {
    const problem =
      "the ledger was restored from a backup: sessions that ran here wait for `cellaflow sessions release`";
    this.log("warn", problem, { code: "incarnation_changed", sessions: [...this.links.keys()] });
    for (const link of [...this.links.values()]) {
      link.fence(problem);
      link.close();
    }
    this.reopen();
  }

  private lost(error: CellaflowError | undefined): void {
    this.stream = undefined;
    this.sending.close();
    this.state = "closed";
    this.heartbeat.stop();
    if (this.failures === 0) this.lostMs = performance.now();
    if (!this.isUsed) return;
    if (error !== undefined && !error.retryable && this.refusedForGood(error)) return;
    if (error !== undefined && performance.now() - this.lostMs > BIND_MS_MAX) this.binds.rejectAll(error);
    if (!this.isUsed) return;
    const max = Math.min(BACKOFF_MS_MAX, (this.limits?.leaseTtlMs ?? BACKOFF_MS_MAX * 3) / 3); // C3
    const backoff = Math.min(max, BACKOFF_MS_FIRST * 2 ** Math.min(this.failures++, 10));
    if (this.failures === 1) this.log("warn", "the connection to the engine is lost; trying again", problemOf(error));
    this.reconnectTimer = setTimeout(() => this.connect(), backoff * (0.5 + Math.random() / 2));
  }

  /**
   * Wrong token, wrong role: trying again would not help whoever is waiting. Runs that are bound may still recover.
   */
  private refusedForGood(error: CellaflowError): boolean {
    if (!REFUSED_FOR_GOOD.has(error.code)) return false;
    this.binds.rejectAll(error);
    if (this.links.size > 0) return false;
    const { serving } = this;
    this.serving = undefined;
    serving?.refused(error);
    return true;
  }

  private get isUsed(): boolean {
    return this.serving !== undefined || this.links.size > 0 || this.binds.size > 0;
  }

  checkIdle(): void {
    if (this.isUsed || this.idleTimer !== undefined) return;
    this.idleTimer = setTimeout(() => {
      this.idleTimer = undefined;
      if (!this.isUsed) this.close(true);
    }, IDLE_MS);
  }

  private shut(): void {
    this.streamNumber++;
    this.stream?.end();
    this.stream = undefined;
    this.sending.close();
    this.state = "closed";
    this.heartbeat.stop();
    this.awake.stop();
    clearTimeout(this.reconnectTimer);
    clearTimeout(this.idleTimer);
    this.idleTimer = undefined;
  }

  // ---- receiving ----

  private received(messages: readonly EngineMessage[], bytes: number): void {
    const open = this.state === "open";
    if (this.checkAwake() && open) return;
    for (const message of messages) this.handle(message);
    this.taken += bytes;
    if (this.taken < CREDIT_BYTES / 4 || this.state !== "open") return;
    this.sending.control({ case: "credit", value: create(CreditSchema, { bytes: BigInt(this.taken) }) });
    this.taken = 0;
  }

  private handle(message: EngineMessage): void {
    const body = message.body;
    switch (body.case) {
      case "welcome":
        return this.welcomed(body.value);
      case "assigned":
        return this.assigned(this.joiner.join(body.value));
      case "events":
        return this.links.get(body.value.sessionId)?.events(this.joiner.join(body.value).events);
      case "ack":
        return this.owners.get(body.value.requestId)?.acked(this.joiner.join(body.value));
      case "nack":
        return this.nacked(body.value);
      case "revoked":
        return this.links.get(body.value.sessionId)?.revoked(body.value);
      case "piece":
        return this.joiner.take(body.value);
      case "credit":
        return this.sending.granted(Number(body.value.bytes));
      case "draining":
        this.log("info", "the engine is draining; its sessions go on when it is back", {});
        return;
      case undefined:
        this.log("warn", "the engine sent a message that this SDK does not know", {});
    }
  }

  private assigned(assigned: Assigned): void {
    const sessionId = assigned.session?.sessionId ?? "";
    const bound = this.links.get(sessionId);
    if (bound?.rebound(assigned)) return;
    let link: SessionLink | undefined;
    if (assigned.epoch > 0n) {
      // A session that comes again while its old run is still here was given away meanwhile.
      bound?.fence("the session was assigned anew");
      link = new SessionLink(this, assigned);
      this.links.set(sessionId, link);
    }
    if (this.binds.answered(assigned.requestId, { assigned, link }) || link === undefined) return;
    if (this.serving !== undefined) this.serving.assigned({ assigned, link });
    // Nobody waits for it any more: another worker may have it.
    else void link.release("unable").then(() => link.close());
  }

  private nacked(nack: Nack): void {
    if (!this.binds.refused(nack)) this.owners.get(nack.requestId)?.nacked(nack);
  }
}

function problemOf(error: CellaflowError | undefined): Record<string, unknown> {
  return error === undefined ? { code: "closed" } : { code: error.code, error: error.message };
}
