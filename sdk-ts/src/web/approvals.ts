/**
 * A web handler where people decide approvals: its GET shows the call, its POST decides.
 *
 * Owns: the checks between a browser and a decision. Never: knows who somebody is (the caller's `authorize` does),
 * routes (mount it anywhere; session and step are in the query string).
 *
 * Invariants:
 * - W1 nothing is looked up, shown or decided before `authorize` said who asks.
 * - W2 only a POST decides; a link, a prefetch or a mail scanner that opens the page changes nothing.
 * - W3 a POST that does not come from a page of this origin is refused: `Origin`, or `Sec-Fetch-Site` where a browser
 *   leaves it out, must say so.
 * - W4 what is decided is the call that was shown: the form carries its digest, and the engine compares it.
 * - W5 the page runs no scripts, is not framed, not cached, and sends its address to nobody else.
 */
import { randomBytes } from "node:crypto";
import type { Client } from "../client/api.js";
import type { ApprovalInfo } from "../client/approvals.js";
import { CellaflowError } from "../errors.js";
import { approvalPage, messagePage, STYLE_HASH } from "./page.js";

/** Longest form in bytes. */
const FORM_BYTES_MAX = 65_536;

/** Who decides. */
export interface Approver {
  /** Recorded with the decision: "token (on behalf of name)". At most 128 bytes. */
  name: string;
}

/** What a handler is made of. */
export interface ApprovalHandlerOptions {
  client: Pick<Client, "approval" | "approve" | "reject">;
  /**
   * Says who asks, from a session cookie for example; undefined: they may not (403). A Response is sent as it is, e.g. a
   * redirect to a login. Called for every request, before anything else.
   */
  authorize(
    request: Request,
    approval: { sessionId: string; stepKey: string },
  ): Approver | Response | undefined | Promise<Approver | Response | undefined>;
  /** Origin of the page as browsers see it, e.g. "https://agents.example.com". Default: the request's. */
  origin?: string;
}

/** Returns the address of an approval's page, for mails and chats. It shows; only its form decides. */
export function approvalUrl(
  base: string | URL,
  { sessionId, stepKey }: { sessionId: string; stepKey: string },
): string {
  const url = new URL(base);
  url.searchParams.set("session", sessionId);
  url.searchParams.set("step", stepKey);
  return url.href;
}

/** Makes the handler: `(Request) => Promise<Response>`. Serve it over HTTPS; on `node:http` with `nodeHandler`. */
export function approvalHandler(options: ApprovalHandlerOptions): (request: Request) => Promise<Response> {
  return async (request) => {
    const { searchParams } = new URL(request.url);
    const named = { sessionId: searchParams.get("session") ?? "", stepKey: searchParams.get("step") ?? "" };
    const who = await options.authorize(request, named); // W1
    if (who instanceof Response) return who;
    if (who === undefined) return message(403, "Not allowed", "You may not see or decide this approval.");
    try {
      if (request.method === "GET" || request.method === "HEAD") return await show(options, named);
      if (request.method === "POST") return await decide(options, request, named, who); // W2
      return message(405, "Not allowed", "This page takes GET and POST.", { allow: "GET, HEAD, POST" });
    } catch (error) {
      return refused(error);
    }
  };
}

async function show(
  { client }: ApprovalHandlerOptions,
  named: { sessionId: string; stepKey: string },
): Promise<Response> {
  const approval = await client.approval(named.sessionId, named.stepKey);
  return html(200, approvalPage(approval, randomBytes(16).toString("hex")));
}

async function decide(
  options: ApprovalHandlerOptions,
  request: Request,
  { sessionId, stepKey }: { sessionId: string; stepKey: string },
  who: Approver,
): Promise<Response> {
  const { origin, pathname, search } = new URL(request.url);
  const here = options.origin ?? origin;
  if (!isSameOrigin(request, here)) {
    return message(403, "Refused", "The decision did not come from this page. Open the page and decide there."); // W3
  }
  const form = await formOf(request);
  const decision = form?.get("decision");
  const argsDigest = form?.get("digest") ?? "";
  if (form === undefined || (decision !== "approve" && decision !== "reject")) {
    return message(400, "Refused", "This is not the page's form. Open the page again.");
  }
  const approval: Pick<ApprovalInfo, "sessionId" | "stepKey" | "argsDigest"> = { sessionId, stepKey, argsDigest }; // W4
  const comment = form.get("comment")?.trim() ?? "";
  const id = form.get("id");
  await options.client[decision](approval, {
    onBehalfOf: who.name,
    ...(comment === "" ? {} : { comment }),
    // Of a form that is sent twice, the second does nothing.
    ...(id === null ? {} : { id }),
  });
  // After a reload the browser shows the outcome instead of sending the form again.
  return new Response(null, { status: 303, headers: { ...HEADERS, location: `${here}${pathname}${search}` } });
}

function isSameOrigin(request: Request, origin: string): boolean {
  const said = request.headers.get("origin");
  if (said !== null) return said === origin;
  return request.headers.get("sec-fetch-site") === "same-origin";
}

async function formOf(request: Request): Promise<URLSearchParams | undefined> {
  const type = request.headers.get("content-type")?.split(";")[0]?.trim().toLowerCase();
  if (type !== "application/x-www-form-urlencoded") return undefined;
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of (request.body ?? []) as AsyncIterable<Uint8Array>) {
    bytes += chunk.length;
    if (bytes > FORM_BYTES_MAX) return undefined;
    chunks.push(chunk);
  }
  return new URLSearchParams(Buffer.concat(chunks).toString());
}

/** What the engine refused, as a page. */
function refused(error: unknown): Response {
  const code = error instanceof CellaflowError ? error.code : "";
  switch (code) {
    case "session_not_found":
    case "approval_not_found":
      return message(404, "Not found", "There is no such approval.");
    case "approval_decided":
      return message(409, "Decided already", "Somebody has decided this approval. Open the page again to see how.");
    case "approval_mismatch":
      return message(409, "Changed", "The call is not the one that was shown. Open the page again and look at it.");
    case "approval_expired":
      return message(410, "Expired", "The time to decide this approval is over.");
    case "session_ended":
      return message(410, "Ended", "The session has ended: nobody waits for a decision any more.");
    case "invalid_argument":
      return message(400, "Refused", "This is not the page's form. Open the page again.");
    default:
      throw error;
  }
}

const HEADERS = {
  "cache-control": "no-store",
  // Not no-referrer: browsers would then send "Origin: null" with the form.
  "referrer-policy": "same-origin",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "content-security-policy": [
    "default-src 'none'",
    `style-src '${STYLE_HASH}'`,
    "form-action 'self'",
    "frame-ancestors 'none'",
    "base-uri 'none'",
  ].join("; "),
} as const;

function message(status: number, title: string, text: string, more: Record<string, string> = {}): Response {
  return html(status, messagePage(title, text), more);
}

function html(status: number, body: string, more: Record<string, string> = {}): Response {
  return new Response(body, { status, headers: { ...HEADERS, "content-type": "text/html; charset=utf-8", ...more } });
}
