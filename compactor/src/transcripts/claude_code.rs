//! Claude Code: JSONL, one record a line. A response is spread over several records that share `message.id`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::ccs::ordered::{self, Ordered};

use super::{BadLine, Call, Error, Event, Part, ToolCall, ToolResult, Transcript, Usage, resources, value};

pub(super) fn parse(text: &str) -> Result<Transcript, Error> {
    let mut reader = Reader::default();
    for (n, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        // A writer that was interrupted leaves two records on one line: both count.
        for record in serde_json::Deserializer::from_str(line).into_iter::<Ordered>() {
            match record {
                Ok(record) => reader.line(&record),
                Err(e) => {
                    reader.out.bad.push(BadLine { line: n + 1, reason: e.to_string() });
                    break;
                }
            }
        }
    }
    if reader.out.events.is_empty() {
        return Err(Error::Missing("message"));
    }
    Ok(reader.out)
}

#[derive(Default)]
struct Reader {
    out: Transcript,
    /// The provider's id of the response being read, and its call.
    response: Option<(String, usize)>,
    /// Arguments of this record's tool calls, as written.
    arguments: BTreeMap<String, String>,
}

impl Reader {
    fn line(&mut self, record: &Ordered) {
        self.arguments = ordered::arguments(record);
        if let Ok(record) = serde_json::to_value(record) {
            self.record(&record);
        }
    }

    fn record(&mut self, record: &Value) {
        let side = record.get("isSidechain").and_then(Value::as_bool).unwrap_or(false);
        let Some(message) = record.get("message").filter(|_| !side) else { return };
        if self.out.id.is_empty() {
            value::str(record, "sessionId").unwrap_or_default().clone_into(&mut self.out.id);
        }
        let at_ms = value::time_ms(record.get("timestamp"));
        match value::str(record, "type") {
            Some("assistant") => self.assistant(message, at_ms),
            Some("user") => self.user(message, at_ms, notice(record)),
            _ => {}
        }
    }

    fn assistant(&mut self, message: &Value, at_ms: Option<i64>) {
        let call = self.call(message, at_ms);
        let parts = message.get("content").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for part in parts {
            let part = match value::str(part, "type") {
                Some("text") => Part::Assistant(value::str(part, "text").unwrap_or_default().into()),
                Some("thinking") => Part::Reasoning(value::str(part, "thinking").unwrap_or_default().into()),
                Some("tool_use") => Part::ToolCall(self.tool_call(part)),
                _ => continue,
            };
            self.out.events.push(Event { at_ms, call: Some(call), part });
        }
    }

    fn user(&mut self, message: &Value, at_ms: Option<i64>, notice: bool) {
        match message.get("content") {
            Some(Value::String(text)) => self.said(text, at_ms, notice),
            Some(Value::Array(parts)) => parts.iter().for_each(|part| self.user_part(part, at_ms, notice)),
            _ => {}
        }
    }

    fn user_part(&mut self, part: &Value, at_ms: Option<i64>, notice: bool) {
        match value::str(part, "type") {
            Some("text") => self.said(value::str(part, "text").unwrap_or_default(), at_ms, notice),
            Some("tool_result") => {
                let result = ToolResult {
                    id: value::str(part, "tool_use_id").unwrap_or_default().into(),
                    text: part.get("content").map(value::text).unwrap_or_default(),
                    failed: part.get("is_error").and_then(Value::as_bool),
                };
                self.out.events.push(Event { at_ms, call: None, part: Part::ToolResult(result) });
            }
            _ => {}
        }
    }

    fn tool_call(&mut self, part: &Value) -> ToolCall {
        let name = value::str(part, "name").unwrap_or_default();
        let id = value::str(part, "id").unwrap_or_default();
        let input = part.get("input").unwrap_or(&Value::Null);
        ToolCall {
            id: id.into(),
            name: name.into(),
            arguments: self.arguments.remove(id).unwrap_or_else(|| input.to_string()),
            resources: resources::of(name, input),
        }
    }

    /// Text in the user's place: the program marks what it put there itself with tags.
    fn said(&mut self, text: &str, at_ms: Option<i64>, notice: bool) {
        let harness =
            notice || text.trim_start().starts_with('<') || text.starts_with("[Request interrupted");
        let part = if harness { Part::Notice(text.into()) } else { Part::User(text.into()) };
        self.out.events.push(Event { at_ms, call: None, part });
    }

    /// The call that a record belongs to; the last record of a response has the final count of output tokens.
    fn call(&mut self, message: &Value, at_ms: Option<i64>) -> usize {
        let id = value::str(message, "id").unwrap_or_default();
        let usage = message.get("usage").map(usage);
        if let Some((open, n)) = &self.response
            && open == id
            && let Some(call) = self.out.calls.get_mut(*n)
        {
            call.usage = usage.or(call.usage);
            return *n;
        }
        let model = value::str(message, "model").unwrap_or_default().into();
        self.out.calls.push(Call { at_ms, model, usage });
        let n = self.out.calls.len() - 1;
        self.response = Some((id.into(), n));
        n
    }
}

fn notice(record: &Value) -> bool {
    let flag = |key| record.get(key).and_then(Value::as_bool).unwrap_or(false);
    flag("isMeta") || flag("isCompactSummary")
}

fn usage(usage: &Value) -> Usage {
    Usage {
        input_tokens: value::u64(usage, "input_tokens"),
        cached_tokens: value::u64(usage, "cache_read_input_tokens"),
        cache_write_tokens: value::u64(usage, "cache_creation_input_tokens"),
        output_tokens: value::u64(usage, "output_tokens"),
    }
}
