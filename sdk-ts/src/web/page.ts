/**
 * The HTML of the approval page.
 *
 * Owns: the markup, and that nothing foreign becomes markup. Never: decides, reads a request.
 *
 * Invariants:
 * - M1 every text that is not written in this file is escaped.
 * - M2 what is shown is whole and unambiguous: values are never shortened, and characters that do not show or change the
 *   direction of the text are written out.
 */
import { hash } from "node:crypto";
import { inspect } from "node:util";
import type { ApprovalInfo } from "../client/approvals.js";

/** A page, and the hash of its style for the content security policy. */
export interface Page {
  html: string;
  style: string;
}

const STYLE = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 46rem; margin: 3rem auto; padding: 0 1rem }
pre { padding: 1rem; border: 1px solid #8886; border-radius: .5rem; white-space: pre-wrap; overflow-wrap: anywhere }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem } dt { opacity: .7 } dd { margin: 0 }
textarea { width: 100%; box-sizing: border-box; font: inherit; padding: .5rem }
button { font: inherit; padding: .5rem 1.5rem; margin: 1rem .5rem 0 0; border-radius: .5rem; border: 1px solid #8888 }
`;

/** Names the style in a content security policy. */
export const STYLE_HASH = `sha256-${hash("sha256", STYLE, "base64")}`;

/** Characters that do not show, or turn the text around them. */
const HIDDEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cs}]/gu;
const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** Returns a text as it stands in markup. M1, M2. */
export function escaped(text: string): string {
  return text
    .replace(HIDDEN, (char) => (char === "\n" ? char : `\\u{${(char.codePointAt(0) ?? 0).toString(16)}}`))
    .replace(/[&<>"']/g, (char) => ENTITIES[char] ?? "");
}

/** The page of an approval: a form while it is open, else how it ended. */
export function approvalPage(approval: ApprovalInfo, formId: string): string {
  const { toolCall, args, name, sessionId, stepKey, expiresAt, outcome } = approval;
  const facts = [
    ["Asked by", `${name} (${stepKey}) of session ${sessionId}`],
    ["Asked at", approval.requestedAt.toISOString()],
    ["Decide until", expiresAt?.toISOString() ?? "no limit"],
  ] as const;
  const list = facts.map(([term, text]) => `<dt>${term}</dt><dd>${escaped(text)}</dd>`).join("");
  const rest = outcome === undefined ? form(approval, formId) : ended(outcome);
  const body = `<h1>${escaped(toolCall)}</h1><pre id="args">${escaped(shown(args))}</pre><dl>${list}</dl>${rest}`;
  return page(`Approve ${toolCall}?`, body);
}

/** A page that says one thing. */
export function messagePage(title: string, text: string): string {
  return page(title, `<h1>${escaped(title)}</h1><p>${escaped(text)}</p>`);
}

function form({ argsDigest }: ApprovalInfo, formId: string): string {
  return `<form method="post">
<input type="hidden" name="digest" value="${escaped(argsDigest)}"><input type="hidden" name="id" value="${escaped(formId)}">
<label for="comment">Comment</label><textarea id="comment" name="comment" rows="3" maxlength="4000"></textarea>
<button name="decision" value="approve">Approve</button><button name="decision" value="reject">Reject</button>
</form>`;
}

function ended({ decision, by, comment, at }: NonNullable<ApprovalInfo["outcome"]>): string {
  const who = by === undefined ? "" : ` by ${by}`;
  const said = comment === undefined ? "" : `<p>${escaped(comment)}</p>`;
  return `<p id="outcome"><strong>${escaped(`${decision}${who}`)}</strong> at ${escaped(at.toISOString())}</p>${said}`;
}

function page(title: string, body: string): string {
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escaped(title)}</title><style>${STYLE}</style></head><body>${body}</body></html>
`;
}

/** JSON where that says everything, else what Node shows of the value, in full. */
function shown(args: unknown): string {
  if (isPlain(args)) return JSON.stringify(args, undefined, 2);
  return inspect(args, { depth: null, maxArrayLength: null, maxStringLength: null, breakLength: 100 });
}

function isPlain(value: unknown): boolean {
  if (value === null || typeof value === "string" || typeof value === "boolean") return true;
  if (typeof value === "number") return Number.isFinite(value) && !Object.is(value, -0);
  if (Array.isArray(value)) return value.every(isPlain);
  if (typeof value !== "object") return false;
  const proto: unknown = Object.getPrototypeOf(value);
  return (proto === Object.prototype || proto === null) && Object.values(value).every(isPlain);
}
