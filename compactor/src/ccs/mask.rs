//! Pass `mask` (8): what is left of old calls and texts becomes a line: what was done to what, how it went, its handle.
//!
//! M1. A call is never hidden by its output: calls are the plan. Only a call that a later one made worthless gives
//!     way, and then the later one's line or the fact table has the resource.

use serde::{Deserialize, Serialize};

use super::dead::Chains;
use super::edits;
use super::facts;
use super::handle;
use super::logs;
use super::normalise::{Item, Kind};
use super::resource::{Mode, Resource};
use super::route::{self, Content};
use super::text;
use super::tokens::Vocabulary;

pub const VERSION: u32 = 1;

/// A line of a sealed segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub seq: u64,
    pub text: String,
    pub tokens: usize,
    /// What the line is worth, in tenths.
    pub value: u32,
}

/// What belongs together: a call and its result, or one text.
#[derive(Debug, Clone, Copy)]
pub struct Unit<'a> {
    pub head: &'a Item,
    pub result: Option<&'a Item>,
}

/// What the pass reads beside the unit.
pub struct Around<'a> {
    pub chains: &'a Chains,
    pub short: &'a dyn Fn(&str) -> String,
    pub vocabulary: Vocabulary,
}

/// The line for a unit; none if nothing in it is worth a line.
#[must_use]
pub fn entry(unit: Unit<'_>, around: &Around<'_>) -> Option<Entry> {
    let (line, value) = match &unit.head.kind {
        Kind::Call { tool, resources, .. } => call(unit, &text::line(tool, 40), resources, around)?,
        Kind::Assistant => said(unit.head, around)?,
        Kind::Notice => (format!("notice: {}", text::sentence(&unit.head.text, 100)), 5),
        Kind::User | Kind::Reasoning | Kind::Observation { .. } => return None,
    };
    let text = format!("{} {line}", handle::show(unit.head.seq));
    let tokens = around.vocabulary.count(&text) + 1;
    Some(Entry { seq: unit.head.seq, text, tokens, value })
}

fn said(item: &Item, around: &Around<'_>) -> Option<(String, u32)> {
    let lower = item.text.to_ascii_lowercase();
    const DECIDED: [&str; 9] = [
        "root cause",
        "the issue is",
        "the problem is",
        "instead",
        "decided",
        "because",
        "turns out",
        "the fix",
        "conclusion",
    ];
    let telling = item.text.split_inclusive(['\n']).flat_map(|l| l.split_inclusive(". ")).find(|s| {
        let s = s.to_ascii_lowercase();
        DECIDED.iter().any(|d| s.contains(d))
    });
    let decided = DECIDED.iter().any(|d| lower.contains(d));
    let sentence = telling.map_or_else(|| text::sentence(&item.text, 140), |s| text::line(s.trim(), 160));
    let line = (around.short)(&sentence);
    (line.len() > 12).then(|| (format!("said: {line}"), if decided { 30 } else { 10 }))
}

fn call(unit: Unit<'_>, tool: &str, resources: &[Resource], around: &Around<'_>) -> Option<(String, u32)> {
    let seq = unit.head.seq;
    let main = resources.first();
    let dead = main.and_then(|r| around.chains.killer(seq, r));
    let Some(main) = main else {
        let what = text::line(&edits::texts(&unit.head.text).join(" "), 80);
        return Some((format!("{tool} {what}{}", outcome(unit, around, 60)), 10));
    };
    let id = (around.short)(&main.id);
    match (main.kind.as_str(), main.mode) {
        ("file", Mode::Read) if dead.is_some() => None,
        ("file", Mode::Read) => {
            let range = main.range.map(|r| format!(":{}-{}", r.first, r.last)).unwrap_or_default();
            Some((format!("read {}{range}", text::ends(&id, 90)), 15))
        }
        ("file", Mode::Write) => Some(edit(unit, main, &id)),
        ("file", Mode::Delete) => Some((format!("delete {}", text::line(&id, 200)), 30)),
        ("todo" | "note", _) => None,
        ("command", _) => {
            let line = facts::checks::canonical(&id);
            let shown = text::ends(&line, if dead.is_some() { 50 } else { 110 });
            if dead.is_some() {
                return None;
            }
            Some((format!("$ {shown}{}", outcome(unit, around, 90)), 20))
        }
        ("search", _) => Some((format!("find {}{}", text::ends(&id, 80), outcome(unit, around, 80)), 12)),
        (kind, Mode::Write | Mode::Delete) => {
            let arguments = text::line(&edits::texts(&unit.head.text).join(" "), 160);
            Some((
                format!(
                    "{tool} {} {}: {arguments}{}",
                    text::line(kind, 20),
                    text::ends(&id, 60),
                    outcome(unit, around, 80)
                ),
                40,
            ))
        }
        (_, Mode::Read) if dead.is_some() => None,
        (kind, _) => Some((
            format!("{} {}{}", text::line(kind, 20), text::ends(&id, 80), outcome(unit, around, 160)),
            15,
        )),
    }
}

fn edit(unit: Unit<'_>, main: &Resource, id: &str) -> (String, u32) {
    let change = edits::change(&unit.head.text, &main.id);
    let failed = matches!(unit.result.map(|r| &r.kind), Some(Kind::Observation { failed: Some(true), .. }));
    let name = text::line(id.rsplit('/').next().unwrap_or(id), 80);
    let lines = text::line(&change.lines.join(" "), 120);
    let verb = if failed { "edit failed" } else { "edit" };
    (format!("{verb} {name} +{} -{}: {lines}", change.added, change.removed), if failed { 10 } else { 30 })
}

/// ` → ` and how it went, in at most `max` characters.
fn outcome(unit: Unit<'_>, around: &Around<'_>, max: usize) -> String {
    let Some(result) = unit.result else { return String::new() };
    let failed = matches!(result.kind, Kind::Observation { failed: Some(true), .. });
    let short = (around.short)(&result.text);
    let text = if failed {
        format!("failed: {}", facts::error_line(&short))
    } else {
        match route::content(&result.text) {
            _ if result.text.lines().nth(1).is_none() => short.clone(),
            Content::Log => {
                let line = short.lines().find(|l| logs::protected(l));
                let line = line.or_else(|| short.lines().rev().find(|l| !l.trim().is_empty()));
                line.unwrap_or_default().to_owned()
            }
            Content::Hits => {
                let mut files: Vec<&str> = short.lines().filter_map(|l| l.split(':').next()).collect();
                files.dedup();
                let names: Vec<&str> = files.iter().take(6).filter_map(|f| f.rsplit('/').next()).collect();
                format!("{} hits {}", result.text.lines().count(), names.join(" "))
            }
            Content::Binary => "binary".into(),
            Content::Source | Content::Diff | Content::Json | Content::Prose => short.clone(),
        }
    };
    let text = text::line(&text, max);
    if text.is_empty() { String::new() } else { format!(" → {text}") }
}
