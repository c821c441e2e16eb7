//! Probes: facts of a history, found independently of the compactor, and what became of each in a context.
//!
//! Retained: readable without a tool. Recoverable: a visible line names the item and a handle, and what the handle
//! leads to, really fetched, has the value. Lost: neither.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::ccs::{Event, handle};
use crate::transcripts::{Mode, Part, ToolCall, Transcript};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    Instructions,
    FilesModified,
    TestStatus,
    Errors,
    Todos,
    Numbers,
    Ids,
}

impl Class {
    pub const ALL: [Self; 7] = [
        Self::Instructions,
        Self::FilesModified,
        Self::TestStatus,
        Self::Errors,
        Self::Todos,
        Self::Numbers,
        Self::Ids,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Instructions => "instructions",
            Self::FilesModified => "files_modified",
            Self::TestStatus => "test_status",
            Self::Errors => "errors",
            Self::Todos => "todos",
            Self::Numbers => "numbers",
            Self::Ids => "ids",
        }
    }
}

/// A fact: all of `needs` on one line (or, for `anywhere`, each somewhere).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    pub class: Class,
    pub name: String,
    pub needs: Vec<String>,
    pub anywhere: bool,
    /// A value that must not be stated beside the name as current.
    pub superseded: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Retained,
    Recoverable,
    Lost,
}

/// A call of the history with its result.
struct Made<'a> {
    call: &'a ToolCall,
    result: Option<&'a str>,
    failed: Option<bool>,
}

/// All probes of the first `upto` events of a transcript.
#[must_use]
pub fn probes(transcript: &Transcript, upto: usize) -> Vec<Probe> {
    let parts: Vec<&Part> = transcript.events.iter().take(upto).map(|e| &e.part).collect();
    let made = calls(&parts);
    let mut out = Vec::new();
    for part in &parts {
        if let Part::User(text) = part {
            let lines = text.lines().map(squeeze).filter(|l| !l.is_empty()).collect();
            out.push(plain(Class::Instructions, &squeeze(text), lines, true));
        }
    }
    files(&made, &mut out);
    tests(&made, &mut out);
    errors(&made, &mut out);
    todos(&made, &mut out);
    numbers(&parts, &mut out);
    ids(&parts, &mut out);
    out
}

fn plain(class: Class, name: &str, needs: Vec<String>, anywhere: bool) -> Probe {
    Probe { class, name: name.chars().take(60).collect(), needs, anywhere, superseded: Vec::new() }
}

fn calls<'a>(parts: &[&'a Part]) -> Vec<Made<'a>> {
    let mut out: Vec<Made<'a>> = Vec::new();
    for part in parts {
        match part {
            Part::ToolCall(call) => out.push(Made { call, result: None, failed: None }),
            Part::ToolResult(result) => {
                if let Some(made) =
                    out.iter_mut().rev().find(|m| m.call.id == result.id && m.result.is_none())
                {
                    (made.result, made.failed) = (Some(result.text.as_str()), result.failed);
                }
            }
            _ => {}
        }
    }
    out
}

fn files(made: &[Made<'_>], out: &mut Vec<Probe>) {
    let mut seen = BTreeSet::new();
    for m in made.iter().filter(|m| m.failed != Some(true) && m.result.is_some()) {
        for r in m
            .call
            .resources
            .iter()
            .filter(|r| r.kind == "file" && matches!(r.mode, Mode::Write | Mode::Delete))
        {
            if seen.insert(r.id.clone()) {
                let parts: Vec<&str> = r.id.split('/').filter(|p| !p.is_empty()).collect();
                let tail = parts.get(parts.len().saturating_sub(2)..).unwrap_or_default().join("/");
                let mut probe = plain(Class::FilesModified, "", vec![tail], false);
                probe.name.clone_from(&r.id);
                out.push(probe);
            }
        }
    }
}

/// A command that runs tests, without pipes, redirections and changes of folder.
fn test_command(command: &str) -> Option<String> {
    let mut line = command.trim();
    if let Some(rest) = line.strip_prefix("cd ") {
        line = rest.split_once("&&").map(|(_, after)| after.trim())?;
    }
    for stop in [" |", " 2>", " >"] {
        line = line.split(stop).next().unwrap_or(line);
    }
    let line = line.trim();
    if line.contains('\n') {
        return None;
    }
    let words: Vec<&str> = line.split_whitespace().map(|w| w.rsplit('/').next().unwrap_or(w)).collect();
    let alone = ["pytest", "vitest", "jest", "tox", "unittest"];
    let with = ["go", "cargo", "npm", "run", "make", "yarn", "pnpm", "bun"];
    let pair = words.iter().zip(words.iter().skip(1)).any(|(a, b)| with.contains(a) && b.starts_with("test"));
    let starts = words.iter().take(4).any(|w| alone.contains(w));
    (pair || starts && !words.iter().take(1).any(|w| ["cat", "ls", "grep", "rg", "which"].contains(w)))
        .then(|| line.to_owned())
}

fn verdict(text: &str, failed: Option<bool>) -> Option<bool> {
    let lines: Vec<String> = text.lines().map(readable).collect();
    let bad = lines.iter().any(|l| {
        l.starts_with("--- FAIL") || l.starts_with("FAIL") || l.contains("FAILED ") || l.contains("panic:")
    });
    // `3 failed`: a number right before the word, on one line.
    let count = |word: &str| {
        lines.iter().any(|l| {
            let words: Vec<&str> = l.split_whitespace().collect();
            words
                .iter()
                .zip(words.iter().skip(1))
                .any(|(n, w)| w.starts_with(word) && n.parse::<u64>().is_ok_and(|n| n > 0))
        })
    };
    let good = lines.iter().any(|l| l.starts_with("ok ") || l.trim() == "PASS") || count("passed");
    match () {
        () if failed == Some(true) || bad || count("failed") => Some(false),
        () if good => Some(true),
        () => None,
    }
}

fn tests(made: &[Made<'_>], out: &mut Vec<Probe>) {
    let mut last: BTreeMap<String, (bool, bool)> = BTreeMap::new();
    for m in made {
        let Some(command) = m.call.resources.iter().find(|r| r.kind == "command") else { continue };
        let Some(name) = test_command(&command.id) else { continue };
        let Some(passed) = m.result.and_then(|text| verdict(text, m.failed)) else { continue };
        let turned = last.get(&name).is_some_and(|(before, turned)| *before != passed || *turned);
        last.insert(name, (passed, turned));
    }
    for (name, (passed, turned)) in last {
        let words = |p: bool| if p { "PASS" } else { "FAIL" };
        let head: String = squeeze(&name).chars().take(40).collect();
        let superseded = if turned { vec![words(!passed).into()] } else { Vec::new() };
        out.push(Probe {
            class: Class::TestStatus,
            name: head.clone(),
            needs: vec![head, words(passed).into()],
            anywhere: false,
            superseded,
        });
    }
}

fn errors(made: &[Made<'_>], out: &mut Vec<Probe>) {
    let mut open: BTreeMap<String, String> = BTreeMap::new();
    for m in made {
        let Some(r) = m.call.resources.first() else { continue };
        let key = format!("{} {}", r.kind, test_command(&r.id).unwrap_or_else(|| r.id.clone()));
        match (m.failed, m.result) {
            (Some(true), Some(text)) => {
                open.insert(key, what_failed(text));
            }
            (_, Some(_)) => {
                open.remove(&key);
            }
            (_, None) => {}
        }
    }
    for (key, line) in open.into_iter().filter(|(_, l)| l.len() >= 8) {
        out.push(plain(Class::Errors, &key, vec![line.chars().take(40).collect()], false));
    }
}

/// The first line that speaks of an error, else the first that is no exit code.
fn what_failed(text: &str) -> String {
    let text = text.replace("<tool_use_error>", "").replace("</tool_use_error>", "");
    let lines: Vec<String> =
        text.lines().map(squeeze).filter(|l| !l.is_empty() && !l.starts_with("Exit code")).collect();
    let telling =
        lines.iter().find(|l| ["error", "fail", "panic"].iter().any(|w| l.to_lowercase().contains(w)));
    telling.or(lines.first()).cloned().unwrap_or_default()
}

fn todos(made: &[Made<'_>], out: &mut Vec<Probe>) {
    let mut list: BTreeMap<String, (String, bool)> = BTreeMap::new();
    let done = |s: &str| matches!(s, "completed" | "done" | "cancelled" | "deleted");
    for m in made.iter().filter(|m| m.result.is_some()) {
        let Some(r) = m.call.resources.iter().find(|r| r.kind == "todo" && r.mode == Mode::Write) else {
            continue;
        };
        let arguments: Value = serde_json::from_str(&m.call.arguments).unwrap_or(Value::Null);
        let field = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        if let Some(rows) = arguments.get("todos").and_then(Value::as_array) {
            list = rows
                .iter()
                .enumerate()
                .map(|(n, row)| (n.to_string(), (field(row, "content"), done(&field(row, "status")))))
                .collect();
        } else if r.id == "new" {
            let number = m
                .result
                .and_then(|t| t.split('#').nth(1))
                .and_then(|t| t.split(' ').next())
                .unwrap_or_default();
            list.insert(number.to_owned(), (field(&arguments, "subject"), false));
        } else if let Some(row) = list.get_mut(&r.id)
            && arguments.get("status").is_some()
        {
            row.1 = done(&field(&arguments, "status"));
        }
    }
    let open: BTreeSet<String> =
        list.values().filter(|(_, closed)| !closed).map(|(t, _)| t.clone()).collect();
    for (text, closed) in list.into_values().filter(|(t, c)| t.len() >= 4 && !(*c && open.contains(t))) {
        let head: String = squeeze(&text).chars().take(60).collect();
        let mut probe = plain(Class::Todos, &head, vec![head.clone()], false);
        if closed {
            (probe.needs, probe.superseded) =
                (Vec::new(), vec![format!("- {head}"), format!("- [now] {head}")]);
        }
        out.push(probe);
    }
}

/// `name: 12.5 ms` in what the agent said: the last value of each name.
fn numbers(parts: &[&Part], out: &mut Vec<Probe>) {
    let mut last: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    for part in parts {
        let Part::Assistant(text) = part else { continue };
        for line in text.lines() {
            let line = squeeze(&line.replace(['*', '`', '|'], ""));
            let Some((name, rest)) = line.split_once(": ") else { continue };
            let name = name.trim_start_matches(['-', ' ', '#', '•']).trim();
            let value: String = rest.chars().take_while(|c| !c.is_whitespace()).collect();
            let value = value.trim_end_matches([',', '.', ';', ')']).to_owned();
            let number = value.trim_start_matches(['$', '~']).starts_with(|c: char| c.is_ascii_digit());
            let digits = value.chars().filter(char::is_ascii_digit).count();
            let named = name.len() >= 3
                && name.chars().count() <= 40
                && name.chars().all(|c| c.is_alphanumeric() || " _-./".contains(c));
            if named && number && digits >= 2 && value.len() <= 16 && name.chars().any(char::is_alphabetic) {
                let row = last.entry(name.to_owned()).or_default();
                if row.0 != value && !row.0.is_empty() {
                    let old = std::mem::take(&mut row.0);
                    row.1.push(old);
                }
                row.0 = value;
            }
        }
    }
    for (name, (value, _)) in last {
        out.push(plain(Class::Numbers, &name, vec![name.clone(), value], false));
    }
}

/// Ids that the person or the agent used in at least two events.
fn ids(parts: &[&Part], out: &mut Vec<Probe>) {
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    for part in parts {
        let text = match part {
            Part::User(t) | Part::Assistant(t) => t.clone(),
            Part::ToolCall(c) if c.arguments.len() < 4000 => c.arguments.replace("\\n", " "),
            _ => continue,
        };
        let words: BTreeSet<&str> = text
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '#'))
            .filter(|w| id(w))
            .collect();
        for word in words {
            *uses.entry(word.to_owned()).or_default() += 1;
        }
    }
    for (word, _) in uses.into_iter().filter(|(_, n)| *n >= 2) {
        out.push(plain(Class::Ids, &word, vec![word.clone()], true));
    }
}

fn id(word: &str) -> bool {
    let count = |f: fn(char) -> bool| word.chars().filter(|c| f(*c)).count();
    let (digits, lower, upper) =
        (count(|c| c.is_ascii_digit()), count(|c| c.is_ascii_lowercase()), count(|c| c.is_ascii_uppercase()));
    let length = word.len();
    if let Some(n) = word.strip_prefix('#') {
        return (2..=6).contains(&n.len()) && n.chars().all(|c| c.is_ascii_digit());
    }
    let commit = upper == 0
        && digits > 0
        && lower > 0
        && (7..=40).contains(&length)
        && word.chars().all(|c| c.is_ascii_hexdigit());
    let code = lower == 0 && upper > 0 && digits > 0 && digits + upper == length && (5..=8).contains(&length);
    let uuid = length == 36 && word.matches('-').count() == 4 && digits + lower + upper == 32 && digits > 4;
    commit || code || uuid
}

fn squeeze(text: &str) -> String {
    readable(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a terminal would show of a text: no colours, no control characters.
fn readable(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| ('@'..='~').contains(&c)).map_or(part.len(), |at| at + 1);
        out.push_str(part.get(end..).unwrap_or_default());
    }
    out.chars()
        .map(|c| if c == '\t' || c == '\r' { ' ' } else { c })
        .filter(|c| !c.is_control() || *c == '\n')
        .collect()
}

/// A context prepared for looking things up.
pub struct Visible {
    lines: Vec<String>,
    all: String,
    front: Vec<String>,
}

impl Visible {
    #[must_use]
    pub fn new(front: &str, tail: &[String]) -> Self {
        let text = format!("{front}{}", tail.concat());
        let lines: Vec<String> = text.lines().map(squeeze).collect();
        Self { all: squeeze(&text), lines, front: front.lines().map(squeeze).collect() }
    }

    /// What became of a probe.
    #[must_use]
    pub fn look(&self, probe: &Probe, events: &[Event]) -> Found {
        let retained = if probe.anywhere {
            probe.needs.iter().all(|n| self.all.contains(n.as_str()))
        } else {
            self.lines.iter().any(|l| states(l, probe))
        };
        if retained || probe.class == Class::FilesModified && self.under_stated_folder(&probe.name) {
            return Found::Retained;
        }
        let Some(name) = probe.needs.first() else { return Found::Retained };
        let value = probe.needs.last().unwrap_or(name);
        // An instruction is named by its first words.
        let name: String = name.chars().take(30).collect();
        let lines = self.lines.iter().filter(|l| l.contains(&name));
        let fetched = lines.flat_map(|l| handles(l)).any(|h| {
            handle::fetch(events, &h, None)
                .is_ok_and(|bytes| squeeze(&String::from_utf8_lossy(bytes)).contains(value.as_str()))
        });
        if fetched { Found::Recoverable } else { Found::Lost }
    }

    /// Whether a line states a folder of the path, and another begins with the rest of it.
    fn under_stated_folder(&self, path: &str) -> bool {
        path.match_indices('/').any(|(at, _)| {
            let (folder, rest) = path.split_at(at + 1);
            folder.len() > 8
                && self.front.iter().any(|l| l.ends_with(&format!(" {folder}")))
                && self.front.iter().any(|l| l.starts_with(&format!("{rest} ")))
        })
    }

    /// Whether the front states a superseded value as current.
    #[must_use]
    pub fn stale(&self, probe: &Probe) -> bool {
        if probe.superseded.is_empty() {
            return false;
        }
        if probe.class == Class::Todos {
            return self.front.iter().any(|l| probe.superseded.iter().any(|s| l == s));
        }
        let Some(name) = probe.needs.first() else { return false };
        let last = self
            .front
            .iter()
            .rev()
            .find(|l| names(l, name) && (l.starts_with("PASS") || l.starts_with("FAIL")));
        last.is_some_and(|l| probe.superseded.iter().any(|s| l.starts_with(s.as_str())))
    }
}

/// Whether a line has all that a probe needs; of a short command, not that of a longer one.
fn states(line: &str, probe: &Probe) -> bool {
    probe.needs.iter().all(|n| line.contains(n.as_str()))
        && (probe.class != Class::TestStatus || probe.needs.first().is_none_or(|name| names(line, name)))
}

fn names(line: &str, command: &str) -> bool {
    let whole = command.chars().count() < 40;
    line.match_indices(command).any(|(at, _)| {
        let rest = line.get(at + command.len()..).unwrap_or_default();
        !whole || rest.is_empty() || rest.starts_with(" §") || rest.starts_with(" →")
    })
}

fn handles(line: &str) -> Vec<String> {
    line.split('§')
        .skip(1)
        .map(|rest| format!("§{}", rest.chars().take_while(char::is_ascii_digit).collect::<String>()))
        .collect()
}
