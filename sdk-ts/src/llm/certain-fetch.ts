/**
 * A fetch whose request leaves this process only while its session is certainly held here.
 *
 * Between the moment in which a call may begin and the one in which a provider has it lie the loading of a client, a
 * connection, perhaps a handshake. A process that was stopped in between, or whose machine slept, would pay for an answer
 * that another worker has long committed.
 *
 * Owns: that the body is handed over last, once the session is certain. Never: decides whether it is.
 *
 * Invariant F1: not a byte of a request's body leaves before `sure` has resolved after the connection was made, and all but the
 * first not before it has resolved again.
 */

type Fetch = (input: string | URL | Request, init?: RequestInit) => Promise<Response>;

/** Returns such a fetch. @param sure resolves once the session is certainly held; never, if it is not */
export function certainFetch(sure: () => Promise<void>): Fetch {
  return (input, init) => {
    const { body } = init ?? {};
    if (typeof body !== "string") return sure().then(() => fetch(input, init));
    const bytes = new TextEncoder().encode(body);
    const headers = new Headers(init?.headers);
    // Its length is known: the request looks on the wire as it would without this.
    headers.set("content-length", String(bytes.byteLength));
    return fetch(input, { ...init, headers, body: handedOver(bytes, sure), duplex: "half" });
  };
}

/**
 * The bytes once they may leave: the first of them alone, the others when that one was taken. Whoever takes the first has all
 * that is between here and the connection loaded and running, so that next to nothing lies between the second look and
 * the bytes that make the request whole: a process stopped before them has asked for nothing.
 */
function handedOver(bytes: Uint8Array, sure: () => Promise<void>): ReadableStream<Uint8Array> {
  const parts = [bytes.subarray(0, 1), bytes.subarray(1)].filter((part) => part.byteLength > 0);
  return new ReadableStream(
    {
      async pull(controller) {
        await sure();
        const part = parts.shift();
        if (part !== undefined) controller.enqueue(part);
        if (parts.length === 0) controller.close();
      },
    },
    // Nothing is asked for before it can be sent.
    { highWaterMark: 0 },
  );
}
