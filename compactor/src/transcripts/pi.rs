//! pi: JSONL; records `message` with roles `user`, `assistant`, `toolResult` and `bashExecution`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::ccs::ordered::{self, Ordered};

use super::{BadLine, Call, Error, Event, Part, ToolCall, ToolResult, Transcript, Usage, resources, value};

pub(super) fn parse(text: &str) -> Result<Transcript, Error> {
    let mut out = Transcript::default();
    for (n, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str::<Ordered>(line) {
            Ok(record) => {
                let mut arguments = ordered::arguments(&record);
                if let Ok(record) = serde_json::to_value(&record) {
                    read(&mut out, &record, &mut arguments);
                }
            }
            Err(e) => out.bad.push(BadLine { line: n + 1, reason: e.to_string() }),
        }
    }
    if out.events.is_empty() { Err(Error::Missing("message")) } else { Ok(out) }
}

fn read(out: &mut Transcript, record: &Value, arguments: &mut BTreeMap<String, String>) {
    if value::str(record, "type") == Some("session") {
        value::str(record, "id").unwrap_or_default().clone_into(&mut out.id);
    }
    let Some(message) = record.get("message") else { return };
    let at_ms = value::time_ms(record.get("timestamp"));
    let null = Value::Null;
    let content = message.get("content").unwrap_or(&null);
    match value::str(message, "role") {
        Some("user") => push(out, at_ms, Part::User(value::text(content))),
        Some("assistant") => assistant(out, message, at_ms, arguments),
        Some("toolResult") => {
            let result = ToolResult {
                id: value::str(message, "toolCallId").unwrap_or_default().into(),
                text: value::text(content),
                failed: message.get("isError").and_then(Value::as_bool),
            };
            push(out, at_ms, Part::ToolResult(result));
        }
        Some("bashExecution") => shell(out, message, at_ms),
        _ => {}
    }
}

fn push(out: &mut Transcript, at_ms: Option<i64>, part: Part) {
    out.events.push(Event { at_ms, call: None, part });
}

fn assistant(
    out: &mut Transcript,
    message: &Value,
    at_ms: Option<i64>,
    ordered: &mut BTreeMap<String, String>,
) {
    out.calls.push(Call {
        at_ms,
        model: value::str(message, "model").unwrap_or_default().into(),
        usage: message.get("usage").map(|u| Usage {
            input_tokens: value::u64(u, "input"),
            cached_tokens: value::u64(u, "cacheRead"),
            cache_write_tokens: value::u64(u, "cacheWrite"),
            output_tokens: value::u64(u, "output"),
        }),
    });
    let call = Some(out.calls.len() - 1);
    for part in message.get("content").and_then(Value::as_array).into_iter().flatten() {
        let part = match value::str(part, "type") {
            Some("text") => Part::Assistant(value::str(part, "text").unwrap_or_default().into()),
            Some("thinking") => Part::Reasoning(value::str(part, "thinking").unwrap_or_default().into()),
            Some("toolCall") => {
                let name = value::str(part, "name").unwrap_or_default();
                let arguments = part.get("arguments").cloned().unwrap_or(Value::Null);
                let id = value::str(part, "id").unwrap_or_default();
                Part::ToolCall(ToolCall {
                    id: id.into(),
                    name: name.into(),
                    arguments: ordered.remove(id).unwrap_or_else(|| arguments.to_string()),
                    resources: resources::of(name, &arguments),
                })
            }
            _ => continue,
        };
        out.events.push(Event { at_ms, call, part });
    }
}

/// A command that the person ran: the model sees it like a call's output.
fn shell(out: &mut Transcript, message: &Value, at_ms: Option<i64>) {
    let command = value::str(message, "command").unwrap_or_default();
    let output = value::str(message, "output").unwrap_or_default();
    push(out, at_ms, Part::Notice(format!("$ {command}\n{output}")));
}
