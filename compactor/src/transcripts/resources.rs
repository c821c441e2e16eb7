//! The tools whose resources the importer knows. What it does not know is declared by the shape of its name.

use serde_json::Value;

use super::{Mode, Range, Resource, shell, value};

/// The resources of a call, by the tool's name and arguments.
pub(super) fn of(tool: &str, input: &Value) -> Vec<Resource> {
    let text = |keys: &[&str]| keys.iter().find_map(|key| value::str(input, key)).unwrap_or_default();
    let path = text(&["file_path", "path", "notebook_path", "filename"]);
    let file = |mode| vec![Resource::new("file", path, mode)];
    match tool.to_ascii_lowercase().as_str() {
        "read" | "view" | "open" | "read_file" | "notebookread" => {
            vec![Resource::new("file", path, Mode::Read).within(lines(input))]
        }
        // An edit changes a part: what was read elsewhere in the file stays as it was.
        "edit" | "multiedit" | "notebookedit" | "str_replace" | "edit_file" => {
            vec![Resource::new("file", path, Mode::Write).within(Some(Range { first: 0, last: 0 }))]
        }
        "write" | "create" | "write_file" | "create_file" => file(Mode::Write),
        "bash" | "shell" | "exec" | "run" | "execute_bash" | "run_command" => {
            shell::resources(text(&["command", "cmd", "script"]))
        }
        "grep" | "glob" | "search" | "find" | "ls" | "list_files" => {
            let mut id = text(&["pattern", "query", "regex"]).to_owned();
            for scope in [path, text(&["glob", "include"])] {
                if !scope.is_empty() {
                    id = format!("{id} in {scope}");
                }
            }
            vec![Resource::new("search", &id, Mode::Read)]
        }
        "todowrite" | "todo_write" => vec![Resource::new("todo", "list", Mode::Write)],
        "taskcreate" => vec![Resource::new("todo", "new", Mode::Write)],
        "taskupdate" => vec![Resource::new("todo", text(&["taskId"]), Mode::Write)],
        "tasklist" | "taskget" => vec![Resource::new("todo", text(&["taskId"]), Mode::Read)],
        "webfetch" | "fetch" => vec![Resource::new("url", text(&["url"]), Mode::Read)],
        "websearch" => vec![Resource::new("search", text(&["query"]), Mode::Read)],
        "task" | "agent" => vec![Resource::new("agent", text(&["description"]), Mode::Run)],
        "think" | "calculate" | "exitplanmode" | "askuserquestion" => {
            vec![Resource::new("note", tool, Mode::Run)]
        }
        name => vec![by_shape(name, input)],
    }
}

fn lines(input: &Value) -> Option<Range> {
    let at = |key| input.get(key).and_then(Value::as_u64);
    if at("offset").is_none() && at("limit").is_none() {
        return None;
    }
    let first = at("offset").unwrap_or(1).max(1);
    Some(Range { first, last: first.saturating_add(at("limit").unwrap_or(2000)).saturating_sub(1) })
}

/// `get_user_details(user_id)` reads the record `user/…`; `cancel_reservation(reservation_id)` writes one.
fn by_shape(tool: &str, input: &Value) -> Resource {
    let (verb, noun) = tool.split_once('_').unwrap_or((tool, ""));
    let mode = match verb {
        "get" | "list" | "find" | "search" | "read" | "show" | "lookup" | "query" | "fetch" => Mode::Read,
        "update" | "set" | "cancel" | "create" | "book" | "modify" | "add" | "send" | "write" => Mode::Write,
        "delete" | "remove" => Mode::Delete,
        _ => Mode::Run,
    };
    if mode == Mode::Run || matches!(verb, "search" | "find" | "list" | "query") {
        let kind = if mode == Mode::Run { "tool" } else { "search" };
        return Resource::new(kind, &format!("{tool} {}", scalars(input)), mode);
    }
    let noun = noun.split('_').next().unwrap_or_default();
    let key = input
        .as_object()
        .into_iter()
        .flatten()
        .find(|(k, v)| k.ends_with("_id") && k.starts_with(noun) && v.is_string());
    let key = key.or_else(|| {
        input.as_object().into_iter().flatten().find(|(k, v)| k.ends_with("id") && v.is_string())
    });
    match key.and_then(|(_, v)| v.as_str()) {
        Some(id) => Resource::new("record", &format!("{noun}/{id}"), mode),
        None => Resource::new("record", &format!("{noun}/{}", scalars(input)), mode),
    }
}

fn scalars(input: &Value) -> String {
    let Some(object) = input.as_object() else { return String::new() };
    let words = object.values().filter_map(|v| match v {
        Value::String(s) => Some(s.clone()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    });
    words.collect::<Vec<_>>().join(" ")
}
