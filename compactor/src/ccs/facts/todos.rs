//! Facts: the list of things to do, whatever the tool calls its fields. Statuses are told by their values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ccs::normalise::Item;
use crate::ccs::{handle, text};

const ROWS_MAX: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Todo {
    text: String,
    status: String,
    seq: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Todos {
    rows: BTreeMap<String, Todo>,
}

const STATUSES: [&str; 10] = [
    "pending",
    "in_progress",
    "completed",
    "done",
    "open",
    "todo",
    "cancelled",
    "deleted",
    "blocked",
    "active",
];

fn closed(status: &str) -> bool {
    matches!(status, "completed" | "done" | "cancelled" | "deleted")
}

impl Todos {
    /// A list replaces all; a single entry is added (its number is told by the result) or changes status.
    pub fn note(&mut self, id: &str, call: &Item, result: &Item) {
        let arguments: Value = serde_json::from_str(&call.text).unwrap_or(Value::Null);
        let list = arguments.as_object().and_then(|o| o.values().find_map(Value::as_array));
        if let Some(list) = list.filter(|l| l.iter().all(Value::is_object)) {
            self.rows.clear();
            for (n, entry) in list.iter().enumerate() {
                let (text, status) = read(entry);
                self.rows.insert(format!("{n:04}"), Todo { text, status, seq: call.seq });
            }
            return;
        }
        let (text, status) = read(&arguments);
        if id == "new" {
            let number =
                result.text.split('#').nth(1).map(|t| t.chars().take_while(char::is_ascii_digit).collect());
            let number: String =
                number.filter(|n: &String| !n.is_empty()).unwrap_or_else(|| call.seq.to_string());
            self.rows.insert(number, Todo { text, status: "pending".into(), seq: call.seq });
        } else if let Some(row) = self.rows.get_mut(id) {
            (row.status, row.seq) = (status, call.seq);
        }
        while self.rows.len() > ROWS_MAX {
            self.rows.pop_first();
        }
    }

    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    pub fn render(&self, out: &mut String) {
        let open: Vec<_> = self.rows.values().filter(|t| !closed(&t.status)).collect();
        let Some(last) = open.iter().map(|t| t.seq).max() else { return };
        out.push_str(&format!("Open todos {}:\n", handle::show(last)));
        for todo in open {
            let mark = if todo.status == "in_progress" { "[now] " } else { "" };
            out.push_str(&format!("- {mark}{}\n", text::line(&todo.text, 160)));
        }
    }
}

/// What an entry says: the status by its value, the text as the shortest of several words. Where that is the form with
/// -ing that lists have for display, the next longer one.
fn read(entry: &Value) -> (String, String) {
    let strings: Vec<&str> =
        entry.as_object().into_iter().flat_map(|o| o.values()).filter_map(Value::as_str).collect();
    let status = strings.iter().find(|s| STATUSES.contains(s)).copied().unwrap_or("pending");
    let mut texts: Vec<&str> = strings.iter().filter(|s| !STATUSES.contains(*s)).copied().collect();
    texts.sort_by_key(|t| (t.split_whitespace().count() < 2, t.len()));
    let text = match texts.as_slice() {
        [first, second, ..] if display(first) && second.len() <= 2 * first.len() => second,
        [first, ..] => first,
        [] => "",
    };
    (text.to_owned(), status.to_owned())
}

fn display(text: &str) -> bool {
    text.split_whitespace().next().is_some_and(|w| w.ends_with("ing"))
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn the_text_is_found_whatever_the_fields_are_called() {
        let entry = serde_json::json!({"a": "Running the tests", "b": "Run all the tests", "c": "in_progress", "d": "high"});
        assert_eq!(read(&entry), ("Run all the tests".into(), "in_progress".into()));
        let entry = serde_json::json!({"a": "Testing", "b": "Test", "c": "completed"});
        assert_eq!(read(&entry).1, "completed");
    }
}
