//! SWE-agent: one JSON document; `history` holds the conversation, actions are command lines of its own shell.

use serde_json::{Value, json};

use super::{
    Call, Error, Event, Mode, Part, Range, Resource, ToolCall, ToolResult, Transcript, openai_chat, shell,
    value,
};

pub(super) fn parse(text: &str) -> Result<Transcript, Error> {
    let document: Value = serde_json::from_str(text).map_err(|e| Error::Json(e.to_string()))?;
    let history = document.get("history").and_then(Value::as_array).ok_or(Error::Missing("history"))?;
    let mut reader = Reader::default();
    value::str(&document, "environment").unwrap_or_default().clone_into(&mut reader.out.id);
    for message in history {
        reader.message(message);
    }
    Ok(reader.out)
}

#[derive(Default)]
struct Reader {
    out: Transcript,
    /// Calls whose observation is still to come.
    waiting: Vec<String>,
    /// The file in SWE-agent's editor.
    open: String,
    actions: usize,
}

impl Reader {
    fn push(&mut self, call: Option<usize>, part: Part) {
        self.out.events.push(Event { at_ms: None, call, part });
    }

    fn message(&mut self, message: &Value) {
        let text = message.get("content").map(value::text).unwrap_or_default();
        let demo = message.get("is_demo").and_then(Value::as_bool).unwrap_or(false);
        match value::str(message, "role") {
            Some("system") => self.push(None, Part::System(text)),
            _ if demo => self.push(None, Part::System(text)),
            Some("assistant") => self.assistant(message, text),
            Some("user" | "tool") if !self.waiting.is_empty() => self.observation(&text),
            Some("user") => self.push(None, Part::User(text)),
            _ => {}
        }
    }

    fn assistant(&mut self, message: &Value, text: String) {
        self.out.calls.push(Call::default());
        let call = Some(self.out.calls.len() - 1);
        let action = value::str(message, "action").unwrap_or_default().trim();
        let thought = value::str(message, "thought").map(|t| t.trim().to_owned()).filter(|t| !t.is_empty());
        self.push(call, Part::Assistant(if action.is_empty() { text } else { thought.unwrap_or_default() }));
        self.waiting.clear();
        let tools = message.get("tool_calls").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if action.is_empty() && tools.is_empty() {
            return;
        }
        let mut made = match tools.first() {
            Some(tool) => openai_chat::tool_call(tool),
            None => ToolCall {
                id: String::new(),
                name: action.split_whitespace().next().unwrap_or_default().into(),
                arguments: json!({ "action": action }).to_string(),
                resources: Vec::new(),
            },
        };
        self.actions += 1;
        if made.id.is_empty() {
            made.id = format!("action-{}", self.actions);
        }
        made.resources = self.resources(action);
        self.waiting.push(made.id.clone());
        self.push(call, Part::ToolCall(made));
    }

    fn observation(&mut self, text: &str) {
        for line in text.lines().rev().take(4) {
            if let Some(path) = line.trim().strip_prefix("(Open file: ").and_then(|l| l.strip_suffix(')')) {
                path.clone_into(&mut self.open);
            }
        }
        for id in std::mem::take(&mut self.waiting) {
            self.push(None, Part::ToolResult(ToolResult { id, text: text.into(), failed: None }));
        }
    }

    /// The resources of an action: SWE-agent's own commands, else a shell line.
    fn resources(&mut self, action: &str) -> Vec<Resource> {
        let first = action.lines().next().unwrap_or_default();
        let mut words = shell::words(first).into_iter();
        let command = words.next().unwrap_or_default();
        let arguments: Vec<String> = words.collect();
        let one = |n: usize| arguments.get(n).map(String::as_str).unwrap_or_default();
        match command.as_str() {
            "open" => {
                one(0).clone_into(&mut self.open);
                vec![Resource::new("file", one(0), Mode::Read).within(window(one(1)))]
            }
            "create" => {
                one(0).clone_into(&mut self.open);
                vec![Resource::new("file", one(0), Mode::Write)]
            }
            "goto" => vec![Resource::new("file", &self.open, Mode::Read).within(window(one(0)))],
            "scroll_down" | "scroll_up" => {
                vec![Resource::new("file", &self.open, Mode::Read).within(window("1"))]
            }
            "edit" | "insert" | "append" => {
                vec![Resource::new("file", &self.open, Mode::Write).within(window("1"))]
            }
            "search_dir" | "search_file" | "find_file" => vec![Resource::new("search", first, Mode::Read)],
            "submit" | "exit_cost" | "exit_context" => vec![Resource::new("note", first, Mode::Run)],
            _ => shell::resources(action),
        }
    }
}

/// The editor shows a window of lines around a line.
fn window(line: &str) -> Option<Range> {
    let line: u64 = line.parse().ok()?;
    Some(Range { first: line.saturating_sub(50).max(1), last: line.saturating_add(50) })
}
