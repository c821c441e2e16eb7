//! Facts: the last status of every command that checks something (tests, builds, linters).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ccs::normalise::Item;
use crate::ccs::{handle, text};

const ROWS_MAX: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    Pass,
    Fail,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub status: Status,
    pub seq: u64,
    pub runs: u32,
    /// The last run whose status differed, if any.
    pub other: Option<u64>,
    pub line: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Checks {
    by_command: BTreeMap<String, Check>,
}

impl Checks {
    /// Takes in a run of a command, if it checks something and its output tells how it went.
    pub fn note(&mut self, command: &str, seq: u64, result: &Item, failed: Option<bool>) {
        let key = canonical(command);
        if !checks(&key) {
            return;
        }
        let Some(status) = status(&result.text, failed) else { return };
        let line = summary(&result.text, status);
        let check = self.by_command.entry(key).or_insert(Check {
            status,
            seq,
            runs: 0,
            other: None,
            line: String::new(),
        });
        if check.status != status {
            check.other = Some(check.seq);
        }
        (check.status, check.seq, check.line) = (status, seq, line);
        check.runs += 1;
        if self.by_command.len() > ROWS_MAX {
            let oldest = self.by_command.iter().min_by_key(|(_, c)| c.seq).map(|(key, _)| key.clone());
            oldest.map(|key| self.by_command.remove(&key));
        }
    }

    #[must_use]
    pub fn rows(&self) -> usize {
        self.by_command.len()
    }

    /// Whether the newest run of some check is this event.
    #[must_use]
    pub fn states(&self, seq: u64) -> bool {
        self.by_command.values().any(|c| c.seq == seq)
    }

    pub fn render(&self, out: &mut String) {
        if self.by_command.is_empty() {
            return;
        }
        out.push_str("Checks, last status:\n");
        let mut rows: Vec<_> = self.by_command.iter().collect();
        rows.sort_by_key(|(_, c)| c.seq);
        for (command, check) in rows {
            let turned = match (check.other, check.status) {
                (Some(at), Status::Pass) => format!(" (failed {})", handle::show(at)),
                (Some(at), Status::Fail) => format!(" (passed {})", handle::show(at)),
                (None, _) => String::new(),
            };
            let command = text::ends(command, 120);
            let line =
                if check.status == Status::Fail { format!(" → {}", check.line) } else { String::new() };
            out.push_str(&format!(
                "{} {command}{line} {}{turned}\n",
                check.status.word(),
                handle::show(check.seq)
            ));
        }
    }
}

/// A command without where its output goes and the folder it starts in.
#[must_use]
pub fn canonical(command: &str) -> String {
    let mut rest = command.trim();
    while rest.starts_with("cd ") {
        let Some((_, after)) = rest.split_once("&&") else { break };
        rest = after.trim();
    }
    let end = rest.find(" | ").unwrap_or(rest.len());
    let rest = rest.get(..end).unwrap_or(rest);
    let end = rest.find(" 2>").unwrap_or(rest.len());
    rest.get(..end).unwrap_or(rest).trim().to_owned()
}

/// Tools that only check.
const RUNNERS: [&str; 8] = ["pytest", "vitest", "jest", "tox", "rspec", "phpunit", "ctest", "golangci-lint"];
/// Tools that check when told to by one of `VERBS`.
const TOOLS: [&str; 22] = [
    "go", "cargo", "npm", "npx", "pnpm", "yarn", "make", "mise", "bun", "deno", "mvn", "gradle", "gradlew",
    "dotnet", "swift", "bazel", "run", "just", "uv", "poetry", "python", "python3",
];
const VERBS: [&str; 10] =
    ["test", "check", "build", "lint", "clippy", "tsc", "vet", "typecheck", "fmt", "unittest"];

/// Whether a command checks something.
fn checks(command: &str) -> bool {
    let first = command.lines().next().unwrap_or_default();
    let words: Vec<&str> = first.split_whitespace().map(|w| w.rsplit('/').next().unwrap_or(w)).collect();
    let verb = |w: &&str| VERBS.iter().any(|v| w.strip_prefix(v).is_some_and(|rest| !rest.starts_with('.')));
    words.iter().any(|w| RUNNERS.contains(w))
        || words.iter().any(|w| TOOLS.contains(w)) && words.iter().any(verb)
}

/// How a check went: a failure that its output states counts more than an exit code, which a pipe may hide.
fn status(text: &str, failed: Option<bool>) -> Option<Status> {
    let (mut passed, mut complained) = (false, false);
    for line in text.lines() {
        let lower = line.to_ascii_lowercase();
        let said = line.starts_with("FAIL") || line.contains("--- FAIL") || line.contains("FAILED");
        if said || line.contains("panic:") || counted(&lower, "failed") {
            return Some(Status::Fail);
        }
        // What is checked may well log errors and pass.
        complained |= line.starts_with("error") || lower.contains("error ts") || counted(&lower, "error");
        passed |= line.starts_with("ok ")
            || line.starts_with("ok\t")
            || line.contains("PASS")
            || lower.contains("passed")
            || lower.contains("0 failed")
            || lower.contains("0 errors");
    }
    match failed {
        Some(true) => Some(Status::Fail),
        _ if complained && !passed => Some(Status::Fail),
        Some(false) => Some(Status::Pass),
        None => passed.then_some(Status::Pass),
    }
}

/// Whether a number above nought stands before the word.
fn counted(line: &str, word: &str) -> bool {
    line.match_indices(&format!(" {word}")).any(|(at, _)| {
        let before = line.get(..at).unwrap_or_default();
        let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        digits.bytes().any(|b| b != b'0')
    })
}

/// What a failed check said: the first failing test, and the first line that speaks of an error.
fn summary(text: &str, status: Status) -> String {
    if status == Status::Pass {
        return String::new();
    }
    let error = text::line(&super::error_line(text), 110);
    let test = text.lines().find(|l| l.contains("--- FAIL") || l.contains("FAILED") || l.contains('✗'));
    match test.map(|l| text::line(l, 80)).filter(|l| *l != error) {
        Some(test) => format!("{test} · {error}"),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::{Status, canonical, checks, status};

    #[test]
    fn commands_are_told_and_named() {
        assert_eq!(canonical("cd /a && go test ./... 2>&1 | tail -5"), "go test ./...");
        assert!(checks("go test ./...") && checks("npm run build") && checks("python -m pytest -q x"));
        assert!(!checks("git log") && !checks("ls test"));
    }

    #[test]
    fn the_status_is_that_of_the_output() {
        assert_eq!(status("ok  \tpkg\t0.1s", None), Some(Status::Pass));
        assert_eq!(status("test result: ok. 3 passed; 0 failed", None), Some(Status::Pass));
        assert_eq!(status("--- FAIL: TestX\nFAIL", Some(false)), Some(Status::Fail));
        assert_eq!(status("2 failed, 1 passed", Some(false)), Some(Status::Fail));
        assert_eq!(status("level=warn msg=\"operation failed\"\nok pkg", None), Some(Status::Pass));
        assert_eq!(status("whatever", None), None);
    }
}
