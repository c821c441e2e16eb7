/**
 * What the scripted model answers the audit agent when no real one is configured: always the same to the same request.
 */
import type { ScriptedMessage, ScriptedReply, ScriptedRequest } from "@cellaflow/sdk/testing";

const FILES_READ = 2;

export default function script(request: ScriptedRequest): ScriptedReply {
  if (request.stream) return { content: auditOf(request) };
  if (request.body.response_format !== undefined) return { content: JSON.stringify(editOf(request)) };
  return { content: "", toolCalls: listedFiles(request).map((path) => ({ name: "read_file", arguments: { path } })) };
}

/** The first files of the list that the agent sent. */
function listedFiles(request: ScriptedRequest): string[] {
  const list = textOf(request.messages.find((message) => message.role === "user"));
  return [...list.matchAll(/^- (.+?) \| /gm)].slice(0, FILES_READ).map((match) => match[1] ?? "");
}

function auditOf(request: ScriptedRequest): string {
  const findings = readFiles(request).map(({ path, text }) => {
    const lines = text.split("\n");
    const longest = lines.reduce((most, line) => Math.max(most, line.length), 0);
    return `**${path}**: ${lines.length} lines were read, the longest has ${longest} characters. Names are clear; errors say what went wrong. One comment could say that it was reviewed.`;
  });
  return [
    "# Audit",
    "",
    ...findings,
    "",
    "Nothing here needs to be fixed at once. The smallest useful change is proposed as a patch.",
  ].join("\n");
}

/** Marks the nth line that occurs once as seen, comments first; n counts the edits that did not fit. */
function editOf(request: ScriptedRequest): object {
  const rejected = request.messages.filter((message) => textOf(message).startsWith("That edit does not fit")).length;
  const candidates = readFiles(request).flatMap(({ path, text }) => uniqueLines(text).map((line) => ({ path, line })));
  const comments = candidates.filter(({ line }) => /^\s*(\/\/|#|\*|--)\s+\w/.test(line));
  const chosen = (comments.length > 0 ? comments : candidates)[rejected] ?? { path: "README.md", line: "#" };
  return {
    file: chosen.path,
    find: chosen.line,
    replace: `${chosen.line} (Seen by the audit.)`,
    why: "a reader knows that somebody looked",
  };
}

function uniqueLines(text: string): string[] {
  return text.split("\n").filter((line) => line.trim().length >= 20 && text.split(line).length === 2);
}

/** The files whose content is among the messages. */
function readFiles(request: ScriptedRequest): { path: string; text: string }[] {
  const paths = new Map<unknown, string>();
  for (const message of request.messages) {
    for (const call of (message.tool_calls ?? []) as { id: string; function: { arguments: string } }[]) {
      paths.set(call.id, (JSON.parse(call.function.arguments) as { path: string }).path);
    }
  }
  return request.messages
    .filter((message) => message.role === "tool" && paths.has(message.tool_call_id))
    .map((message) => ({ path: paths.get(message.tool_call_id) ?? "", text: textOf(message) }));
}

function textOf(message: ScriptedMessage | undefined): string {
  return typeof message?.content === "string" ? message.content : "";
}
