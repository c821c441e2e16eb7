//! Pass `project facts` (9): a typed table of what a session knows, folded event by event.
//!
//! F1. The user's instructions stay word for word (they are kept beside the table, `instructions`).
//! F2. Of every resource the newest state is stated, and only that: what is superseded is not in the table.
//! F3. Rows lead to their events by handle.

pub mod checks;
pub mod ids;
pub mod todos;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::edits;
use super::handle;
use super::normalise::{Item, Kind};
use super::resource::{Mode, Resource};
use super::text;

pub const VERSION: u32 = 1;

/// Rows of a kind beyond this give way, the oldest first.
const ROWS_MAX: usize = 1024;

/// What is known of one file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FileFact {
    pub read: u64,
    pub written: u64,
    pub writes: u32,
    pub added: usize,
    pub removed: usize,
    pub deleted: bool,
}

/// A failure that nothing resolved yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub seq: u64,
    pub line: String,
}

/// The table.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Facts {
    pub files: BTreeMap<String, FileFact>,
    pub records: BTreeMap<String, u64>,
    pub checks: checks::Checks,
    pub todos: todos::Todos,
    pub ids: ids::Ids,
    pub failures: BTreeMap<String, Failure>,
}

impl Facts {
    /// Takes in what was said, and what a call asks for.
    pub fn note(&mut self, item: &Item) {
        match &item.kind {
            Kind::User => self.ids.note(&item.text, item.seq, false),
            Kind::Assistant => self.ids.note(&item.text, item.seq, true),
            Kind::Call { .. } => {
                for text in edits::texts(&item.text).iter().filter(|t| t.len() < 4000) {
                    self.ids.note(text, item.seq, false);
                }
            }
            Kind::Notice | Kind::Reasoning | Kind::Observation { .. } => {}
        }
    }

    /// Takes in a call whose result is known.
    pub fn settle(&mut self, call: &Item, result: &Item) {
        let Kind::Call { resources, .. } = &call.kind else { return };
        let Kind::Observation { failed, .. } = result.kind else { return };
        for resource in resources {
            self.touch(call, result, resource, failed);
        }
        if let Some(main) = resources.first() {
            self.outcome(call, result, main, failed);
        }
    }

    fn touch(&mut self, call: &Item, result: &Item, resource: &Resource, failed: Option<bool>) {
        match resource.kind.as_str() {
            "file" if failed != Some(true) => self.file(call, resource),
            "record" => {
                self.records.insert(resource.id.clone(), result.seq);
            }
            "command" => self.checks.note(&resource.id, call.seq, result, failed),
            "todo" if resource.mode == Mode::Write => self.todos.note(&resource.id, call, result),
            _ => {}
        }
    }

    fn file(&mut self, call: &Item, resource: &Resource) {
        let fact = self.files.entry(resource.id.clone()).or_default();
        match resource.mode {
            Mode::Read => fact.read = call.seq,
            Mode::Write => {
                let change = edits::change(&call.text, &resource.id);
                fact.written = call.seq;
                fact.writes += 1;
                fact.added += change.added;
                fact.removed += change.removed;
                fact.deleted = false;
            }
            Mode::Delete => (fact.written, fact.deleted) = (call.seq, true),
            Mode::Run => {}
        }
        if self.files.len() > ROWS_MAX {
            // Files that were only read go first.
            let oldest = self.files.iter().min_by_key(|(_, f)| (f.written, f.read)).map(|(id, _)| id.clone());
            oldest.map(|id| self.files.remove(&id));
        }
    }

    /// A failure stays until the same resource is used without one.
    fn outcome(&mut self, call: &Item, result: &Item, main: &Resource, failed: Option<bool>) {
        let key = if main.kind == "command" { main.id.clone() } else { format!("{} {}", main.kind, main.id) };
        let broke = match (failed, main.kind.as_str()) {
            (Some(failed), _) => failed,
            (None, "command" | "file") => looks_failed(&result.text),
            (None, _) => false,
        };
        if !broke {
            self.failures.remove(&key);
            return;
        }
        self.failures.insert(key, Failure { seq: call.seq, line: error_line(&result.text) });
        if self.failures.len() > ROWS_MAX {
            let oldest = self.failures.iter().min_by_key(|(_, f)| f.seq).map(|(id, _)| id.clone());
            oldest.map(|id| self.failures.remove(&id));
        }
    }

    /// Rows that a rendering walks.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.files.len() + self.failures.len() + self.checks.rows() + self.todos.rows() + self.ids.rows()
    }

    /// The table as text; `short` shortens paths.
    #[must_use]
    pub fn render(&self, short: &dyn Fn(&str) -> String) -> String {
        let mut out = String::new();
        self.render_files(&mut out, short);
        self.checks.render(&mut out);
        self.render_failures(&mut out, short);
        self.todos.render(&mut out);
        out
    }

    fn render_files(&self, out: &mut String, short: &dyn Fn(&str) -> String) {
        let mut changed: Vec<_> = self.files.iter().filter(|(_, f)| f.written > 0).collect();
        changed.sort_by_key(|(_, f)| f.written);
        if changed.is_empty() {
            return;
        }
        out.push_str("Changed files:\n");
        for (id, f) in changed {
            let what = if f.deleted { "deleted".into() } else { format!("+{} -{}", f.added, f.removed) };
            let times = if f.writes > 1 { format!(" ×{}", f.writes) } else { String::new() };
            out.push_str(&format!(
                "{} {what}{times} {}\n",
                text::line(&short(id), 400),
                handle::show(f.written)
            ));
        }
    }

    fn render_failures(&self, out: &mut String, short: &dyn Fn(&str) -> String) {
        // A failed check has said so already.
        let mut open: Vec<_> = self.failures.iter().filter(|(_, f)| !self.checks.states(f.seq)).collect();
        if open.is_empty() {
            return;
        }
        out.push_str("Unresolved:\n");
        open.sort_by_key(|(_, f)| f.seq);
        for (key, failure) in open {
            let what = text::ends(&short(key), 70);
            out.push_str(&format!(
                "{what}: {} {}\n",
                text::line(&failure.line, 140),
                handle::show(failure.seq)
            ));
        }
    }
}

fn looks_failed(text: &str) -> bool {
    let start: String = text.chars().take(400).collect();
    start.contains("Traceback (most recent")
        || start.contains("command not found")
        || start.contains("rror: ")
        || start.contains("No such file")
}

/// The line that says what went wrong: the first with an error in it, else the first.
#[must_use]
pub fn error_line(text: &str) -> String {
    let plain = text.replace("<tool_use_error>", "").replace("</tool_use_error>", "");
    let mut lines = plain.lines().filter(|l| !l.trim().is_empty() && !l.starts_with("Exit code"));
    let telling = plain.lines().find(|l| {
        let lower = l.to_ascii_lowercase();
        (lower.contains("error") || lower.contains("fail") || lower.contains("panic"))
            && !lower.starts_with("exit code")
    });
    text::line(telling.or_else(|| lines.next()).unwrap_or_default(), 200)
}
