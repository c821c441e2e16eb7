/**
 * A real SMTP server that delivers to nowhere, counts deliveries by Message-ID, and can be asked whether one arrived:
 * the witness for "the mail was sent once", and what a `reconcile` asks.
 *
 * HTTP beside it: `GET /delivered?message_id=…` → `{message_id, count}`, `GET /count` → `{messages, unique}`,
 * `GET /messages`, `POST /control/faults {fault, match?: {message_id}, times?}`.
 *
 * Invariants:
 * - M1 a message counts exactly when all of it arrived; from then on the HTTP side says so, before any reply leaves.
 * - M2 a message whose connection broke before its end counts nowhere.
 */
import type { AddressInfo, Socket } from "node:net";
import type { SMTPServer, SMTPServerDataStream, SMTPServerSession } from "smtp-server";
import { Faults, type Match } from "./faults.js";
import { listen, readJson, sendJson, sleep } from "./http.js";
import { Jsonl } from "./record.js";

/** What goes wrong with a message. */
export interface MailFault {
  /** Deliver, then reset the connection without a reply: the sender cannot know. */
  resetAfterDelivery?: boolean;
  /** Reset the connection without delivering. */
  resetBeforeDelivery?: boolean;
  /** Deliver, then wait so many milliseconds before the reply. */
  delayReplyMs?: number;
  /** Refuse with this reply code, e.g. 451 or 550, without delivering. */
  refuse?: number;
}

/** One delivered message. */
export interface DeliveryRecord {
  /** Counts from 1. */
  n: number;
  message_id: string;
  from: string;
  to: string[];
  subject: string;
  bytes: number;
  /** Milliseconds since the epoch. */
  delivered_ms: number;
}

/** Settings of a local SMTP server. */
export interface SmtpOptions {
  /** SMTP port on 127.0.0.1. Default: 0, a free one. */
  port?: number;
  /** Port of the HTTP side. Default: 0, a free one. */
  httpPort?: number;
  /** Where deliveries are appended as JSONL. Default: memory only. */
  recordFile?: string;
}

/** A running SMTP server. */
export interface LocalSmtp {
  /** What goes into `SMTP_URL`. */
  readonly smtpUrl: string;
  /** The HTTP side's root. */
  readonly url: string;
  readonly deliveries: readonly DeliveryRecord[];
  /** How often a message with this Message-ID was delivered. */
  count(messageId: string): number;
  inject(fault: MailFault, match?: Match, times?: number): void;
  close(): Promise<void>;
}

/** The largest message, in bytes. */
export const MESSAGE_BYTES_MAX = 32 * 1024 * 1024;

/** Starts a local SMTP server. Needs the package `smtp-server`, an optional peer dependency. */
export async function startSmtp(options: SmtpOptions = {}): Promise<LocalSmtp> {
  const post = new PostOffice(options.recordFile);
  const smtp = await listenSmtp(post, options.port ?? 0);
  const http = await listen(async (request, response, url) => {
    switch (`${request.method} ${url.pathname}`) {
      case "GET /delivered": {
        const messageId = url.searchParams.get("message_id") ?? "";
        return sendJson(response, 200, { message_id: messageId, count: post.count(messageId) });
      }
      case "GET /count": {
        const unique = new Set(post.account.entries.map((one) => one.message_id)).size;
        return sendJson(response, 200, { messages: post.account.entries.length, unique });
      }
      case "GET /messages":
        return sendJson(response, 200, post.account.entries);
      case "POST /control/faults": {
        const body = await readJson(request);
        post.faults.add(body.fault as MailFault, (body.match ?? {}) as Match, Number(body.times ?? 1));
        return sendJson(response, 200, {});
      }
      default:
        return sendJson(response, 404, { error: `nothing at ${url.pathname}` });
    }
  }, options.httpPort ?? 0);

  return {
    smtpUrl: `smtp://127.0.0.1:${(smtp.server.address() as AddressInfo).port}`,
    url: http.url,
    get deliveries() {
      return post.account.entries;
    },
    count: (messageId) => post.count(messageId),
    inject: (fault, match, times) => post.faults.add(fault, match, times),
    close: async () => {
      post.hangUp();
      await Promise.all([http.close(), new Promise<void>((resolve) => smtp.close(() => resolve()))]);
      post.account.close();
    },
  };
}

async function listenSmtp(post: PostOffice, port: number): Promise<SMTPServer> {
  // Loaded here: users of the other test servers need not install it.
  const { SMTPServer: Server } = await import("smtp-server");
  const smtp = new Server({
    // Plain and open: it listens on the loopback interface and delivers to nobody.
    disabledCommands: ["STARTTLS"],
    authOptional: true,
    allowInsecureAuth: true,
    disableReverseLookup: true,
    size: MESSAGE_BYTES_MAX,
    onAuth: (_auth, _session, done) => done(null, { user: "anyone" }),
    onData: (stream, session, done) => {
      post.receive(stream, session).then(
        (refusal) => done(refusal),
        (error: unknown) => done(error instanceof Error ? error : new Error(String(error))),
      );
    },
  });
  smtp.server.on("connection", (socket: Socket) => post.watch(socket));
  // Broken connections are what it is for.
  smtp.on("error", () => undefined);
  await new Promise<void>((resolve, reject) => {
    smtp.server.once("error", reject);
    smtp.listen(port, "127.0.0.1", () => resolve());
  });
  return smtp;
}

class PostOffice {
  readonly account: Jsonl<DeliveryRecord>;
  readonly faults = new Faults<MailFault>();
  private readonly sockets = new Map<number, Socket>();

  constructor(recordFile: string | undefined) {
    this.account = new Jsonl(recordFile);
  }

  count(messageId: string): number {
    return this.account.entries.filter((one) => one.message_id === messageId).length;
  }

  watch(socket: Socket): void {
    const port = socket.remotePort;
    if (port === undefined) return;
    this.sockets.set(port, socket);
    socket.on("close", () => this.sockets.delete(port));
  }

  hangUp(): void {
    for (const socket of this.sockets.values()) socket.destroy();
  }

  /** Takes one message; returns the refusal, or nothing when it was delivered. */
  async receive(stream: SMTPServerDataStream, session: SMTPServerSession): Promise<Error | undefined> {
    // Throws when the connection breaks before the message's end (M2).
    const raw = await readAll(stream);
    const headers = parseHeaders(raw);
    const messageId = headers.get("message-id") ?? "";
    const fault = this.faults.take({ message_id: messageId }) ?? {};
    if (fault.resetBeforeDelivery === true) {
      this.reset(session);
      return undefined;
    }
    if (fault.refuse !== undefined) {
      return Object.assign(new Error("the script refuses it"), { responseCode: fault.refuse });
    }
    this.account.append({
      n: this.account.entries.length + 1,
      message_id: messageId,
      from: session.envelope.mailFrom === false ? "" : session.envelope.mailFrom.address,
      to: session.envelope.rcptTo.map((one) => one.address),
      subject: headers.get("subject") ?? "",
      bytes: raw.length,
      delivered_ms: Date.now(),
    });
    if (fault.resetAfterDelivery === true) this.reset(session);
    await sleep(fault.delayReplyMs ?? 0);
    return undefined;
  }

  private reset(session: SMTPServerSession): void {
    this.sockets.get(session.remotePort)?.resetAndDestroy();
  }
}

function readAll(stream: SMTPServerDataStream): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    stream.on("data", (part: Buffer) => parts.push(part));
    stream.on("end", () => resolve(Buffer.concat(parts)));
    stream.on("error", reject);
    stream.on("close", () => reject(new Error("the connection broke before the message's end")));
  });
}

/** Reads the head of a message: names in lower case, folded lines joined. */
function parseHeaders(raw: Buffer): Map<string, string> {
  const text = raw.toString("utf8");
  const end = text.indexOf("\r\n\r\n");
  const lines = (end < 0 ? text : text.slice(0, end)).replace(/\r\n[ \t]+/g, " ").split("\r\n");
  const headers = new Map<string, string>();
  for (const line of lines) {
    const colon = line.indexOf(":");
    if (colon > 0) headers.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim());
  }
  return headers;
}
