//! Facts: the list of things to do, whatever the tool calls its fields. Statuses are told by their values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ccs::normalise::Item;
use crate::ccs::ordered::Ordered;
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
        let Ok(arguments) = serde_json::from_str::<Ordered>(&call.text) else { return };
        if let Some(list) = list(&arguments) {
            self.rows.clear();
            for (n, entry) in list.iter().take(ROWS_MAX).enumerate() {
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

/// The list in a call's arguments, if they hold one of objects.
fn list(arguments: &Ordered) -> Option<&[Ordered]> {
    let Ordered::Object(fields) = arguments else { return None };
    fields.iter().find_map(|(_, value)| match value {
        Ordered::Array(items) if items.iter().all(|i| matches!(i, Ordered::Object(_))) => {
            Some(items.as_slice())
        }
        Ordered::Object(_) | Ordered::Array(_) | Ordered::Scalar(_) => None,
    })
}

/// What an entry says: the status by its value, the text as the first of several words. Where that is the form with
/// -ing that lists have for display, the next that is not.
fn read(entry: &Ordered) -> (String, String) {
    let mut strings = Vec::new();
    entry.texts(&mut strings);
    let status = strings.iter().find(|s| STATUSES.contains(&s.as_str())).map_or("pending", String::as_str);
    let texts: Vec<&String> = strings.iter().filter(|s| !STATUSES.contains(&s.as_str())).collect();
    let several = |t: &&&String| t.split_whitespace().nth(1).is_some();
    let first = texts.iter().find(several).or(texts.first()).copied();
    let plain = texts.iter().filter(several).find(|t| !display(t)).copied();
    let text = match (first, plain) {
        (Some(first), Some(plain)) if display(first) && plain.len() <= 3 * first.len() => Some(plain),
        (first, _) => first,
    };
    (text.cloned().unwrap_or_default(), status.to_owned())
}

fn display(text: &str) -> bool {
    text.split_whitespace().next().is_some_and(|w| w.ends_with("ing"))
}

#[cfg(test)]
mod tests {
    use super::read;

    fn text(json: &str) -> String {
        read(&serde_json::from_str(json).unwrap()).0
    }

    #[test]
    fn the_text_is_found_whatever_the_fields_are_called() {
        let entry = r#"{"a":"Running the tests","b":"Run all the tests","c":"in_progress","d":"high"}"#;
        assert_eq!(
            read(&serde_json::from_str(entry).unwrap()),
            ("Run all the tests".into(), "in_progress".into())
        );
        assert_eq!(
            text(r#"{"s":"Fix the parser of long lines","d":"It fails. See above.","a":"Fixing"}"#),
            "Fix the parser of long lines"
        );
        assert_eq!(text(r#"{"content":"Test","status":"completed","activeForm":"Testing"}"#), "Test");
    }
}
