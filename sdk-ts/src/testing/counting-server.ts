/**
 * A tool that charges: `POST /charge` counts every effect per idempotency key. The witness for "at most once".
 *
 * The key is the header `idempotency-key`, else the body's `key`. `GET /count?key=…`, `GET /counts`,
 * `POST /control/faults {fault, match?: {key}, times?}`.
 *
 * Invariant N1: a charge is in the account before a byte of its answer leaves or its connection is reset.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { Faults, type Match } from "./faults.js";
import { header, listen, readJson, resetConnection, sendJson, sleep } from "./http.js";
import { Jsonl } from "./record.js";

/** What goes wrong with a charge. */
export interface ChargeFault {
  /** Wait so many milliseconds before charging. */
  delayBeforeMs?: number;
  /** Charge, then wait so many milliseconds before answering. */
  delayAfterMs?: number;
  /** Charge, then reset the connection without an answer. */
  resetAfterCharge?: boolean;
  /** Reset the connection without charging. */
  resetBeforeCharge?: boolean;
  /** Answer with this status without charging. */
  status?: number;
}

/** One charge. */
export interface ChargeRecord {
  /** Counts from 1. */
  n: number;
  key: string;
  /** Milliseconds since the epoch. */
  at_ms: number;
  body: Record<string, unknown>;
}

/** Settings of a counting server. */
export interface CountingServerOptions {
  /** Port on 127.0.0.1. Default: 0, a free one. */
  port?: number;
  /** Where charges are appended as JSONL. Default: memory only. */
  recordFile?: string;
  /** Whether a key that was charged gets its first answer again instead of a second charge. Default: false. */
  honourKey?: boolean;
}

/** A running counting server. */
export interface CountingServer {
  readonly url: string;
  readonly charges: readonly ChargeRecord[];
  /** How often this key was charged. */
  count(key: string): number;
  inject(fault: ChargeFault, match?: Match, times?: number): void;
  close(): Promise<void>;
}

/** Starts a counting server. */
export async function startCountingServer(options: CountingServerOptions = {}): Promise<CountingServer> {
  const account = new Jsonl<ChargeRecord>(options.recordFile);
  const faults = new Faults<ChargeFault>();
  const count = (key: string): number => account.entries.filter((charge) => charge.key === key).length;

  async function charge(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await readJson(request);
    const key = header(request, "idempotency-key") || String(body.key ?? "");
    const fault = faults.take({ key }) ?? {};
    await sleep(fault.delayBeforeMs ?? 0);
    if (fault.resetBeforeCharge === true) return resetConnection(response);
    if (fault.status !== undefined)
      return sendJson(response, fault.status, { error: `the script answers ${fault.status}` });
    let made = options.honourKey === true ? account.entries.find((one) => one.key === key) : undefined;
    if (made === undefined) {
      made = { n: account.entries.length + 1, key, at_ms: Date.now(), body };
      account.append(made);
    }
    if (fault.resetAfterCharge === true) return resetConnection(response);
    await sleep(fault.delayAfterMs ?? 0);
    sendJson(response, 200, { charge: made.n, key });
  }

  const listening = await listen(async (request, response, url) => {
    switch (`${request.method} ${url.pathname}`) {
      case "POST /charge":
        return charge(request, response);
      case "GET /count": {
        const key = url.searchParams.get("key") ?? "";
        return sendJson(response, 200, { key, count: count(key) });
      }
      case "GET /counts": {
        const keys: Record<string, number> = {};
        for (const { key } of account.entries) keys[key] = (keys[key] ?? 0) + 1;
        return sendJson(response, 200, { total: account.entries.length, keys });
      }
      case "POST /control/faults": {
        const body = await readJson(request);
        faults.add(body.fault as ChargeFault, (body.match ?? {}) as Match, Number(body.times ?? 1));
        return sendJson(response, 200, {});
      }
      default:
        return sendJson(response, 404, { error: `nothing at ${url.pathname}` });
    }
  }, options.port ?? 0);

  return {
    url: listening.url,
    get charges() {
      return account.entries;
    },
    count,
    inject: (fault, match, times) => faults.add(fault, match, times),
    close: async () => {
      await listening.close();
      account.close();
    },
  };
}
