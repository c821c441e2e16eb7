//! OpenAI chat messages: a list of messages, or records that hold one in `messages` or `traj`.

use serde_json::Value;

use super::{BadLine, Call, Error, Event, Part, ToolCall, ToolResult, Transcript, resources, value};

/// Whether a JSON document looks like chats.
pub(super) fn fits(document: &Value) -> bool {
    messages(document).is_some()
        || document.as_array().and_then(|runs| runs.first()).is_some_and(|run| messages(run).is_some())
}

pub(super) fn parse(text: &str) -> Result<Vec<Transcript>, Error> {
    let document = match serde_json::from_str::<Value>(text) {
        Ok(document) => document,
        Err(whole) => return lines(text, &whole),
    };
    if let Some(list) = messages(&document) {
        return Ok(vec![run(&document, list, 1)]);
    }
    let runs = document.as_array().ok_or(Error::Missing("messages"))?;
    let mut out = Vec::new();
    let mut bad = Vec::new();
    for (n, record) in runs.iter().enumerate() {
        match messages(record) {
            Some(list) => out.push(run(record, list, n + 1)),
            None => bad.push(BadLine { line: n + 1, reason: "no list of messages".into() }),
        }
    }
    finish(out, bad)
}

fn lines(text: &str, whole: &serde_json::Error) -> Result<Vec<Transcript>, Error> {
    let mut out = Vec::new();
    let mut bad = Vec::new();
    for (n, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        match serde_json::from_str::<Value>(line) {
            Ok(record) => match messages(&record) {
                Some(list) => out.push(run(&record, list, n + 1)),
                None => bad.push(BadLine { line: n + 1, reason: "no list of messages".into() }),
            },
            Err(e) => bad.push(BadLine { line: n + 1, reason: e.to_string() }),
        }
    }
    if out.is_empty() { Err(Error::Json(whole.to_string())) } else { finish(out, bad) }
}

fn finish(mut out: Vec<Transcript>, bad: Vec<BadLine>) -> Result<Vec<Transcript>, Error> {
    out.first_mut().ok_or(Error::Missing("messages"))?.bad = bad;
    Ok(out)
}

fn messages(record: &Value) -> Option<&Vec<Value>> {
    let list = ["messages", "traj"].iter().find_map(|key| record.get(key)).unwrap_or(record).as_array()?;
    list.first()?.get("role")?;
    Some(list)
}

fn run(record: &Value, list: &[Value], place: usize) -> Transcript {
    let id = ["id", "task_id"].iter().find_map(|key| record.get(key));
    let id = id.map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
    let trial =
        record.get("trial").map(|t| format!("-{}", t.as_str().map_or_else(|| t.to_string(), str::to_owned)));
    let mut out = Transcript {
        id: format!("{}{}", id.unwrap_or_else(|| place.to_string()), trial.unwrap_or_default()),
        ..Transcript::default()
    };
    for message in list {
        read(&mut out, message);
    }
    out
}

fn read(out: &mut Transcript, message: &Value) {
    let text = message.get("content").map(value::text).unwrap_or_default();
    let sent = |part| Event { at_ms: None, call: None, part };
    match value::str(message, "role") {
        Some("system" | "developer") => out.events.push(sent(Part::System(text))),
        Some("user") => out.events.push(sent(Part::User(text))),
        Some("tool" | "function") => {
            let id = value::str(message, "tool_call_id").unwrap_or_default().into();
            let failed = text.starts_with("Error").then_some(true);
            out.events.push(sent(Part::ToolResult(ToolResult { id, text, failed })));
        }
        Some("assistant") => {
            out.calls.push(Call::default());
            let call = Some(out.calls.len() - 1);
            if let Some(thought) = value::str(message, "reasoning_content") {
                out.events.push(Event { at_ms: None, call, part: Part::Reasoning(thought.into()) });
            }
            if !text.is_empty() {
                out.events.push(Event { at_ms: None, call, part: Part::Assistant(text) });
            }
            for tool in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
                out.events.push(Event { at_ms: None, call, part: Part::ToolCall(tool_call(tool)) });
            }
        }
        _ => {}
    }
}

pub(super) fn tool_call(tool: &Value) -> ToolCall {
    let null = Value::Null;
    let function = tool.get("function").unwrap_or(&null);
    let name = value::str(function, "name").unwrap_or_default();
    let arguments = match function.get("arguments") {
        Some(Value::String(json)) => json.clone(),
        Some(other) => other.to_string(),
        None => "{}".into(),
    };
    let parsed = serde_json::from_str(&arguments).unwrap_or(Value::Null);
    ToolCall {
        id: value::str(tool, "id").unwrap_or_default().into(),
        name: name.into(),
        resources: resources::of(name, &parsed),
        arguments,
    }
}
