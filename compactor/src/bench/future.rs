//! Future use: of the identifiers that the next tool calls need and the history had, how many can the model still read?

use std::collections::BTreeSet;

use serde_json::Value;

/// Identifiers needed, and how many of them each kind of context shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Use {
    pub needed: usize,
    pub shown: usize,
}

impl Use {
    pub fn add(&mut self, other: Self) {
        self.needed += other.needed;
        self.shown += other.shown;
    }

    /// From 0 to 1; 1 where nothing was needed.
    #[must_use]
    pub fn share(self) -> f64 {
        if self.needed == 0 { 1.0 } else { self.shown as f64 / self.needed as f64 }
    }
}

/// Names that people do not speak: with an inner capital, digit, underscore, dot or dash; parts of paths one by one.
#[must_use]
pub fn names(text: &str) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    let mut word = String::new();
    for c in text.chars().chain([' ']) {
        if c.is_ascii_alphanumeric() || c == '_' || c == '.' || c == '-' {
            word.push(c);
            continue;
        }
        let name = word.trim_matches(['.', '-']);
        if (4..=80).contains(&name.len()) && made_up(name) {
            out.insert(name.to_owned());
        }
        word.clear();
    }
    out
}

fn made_up(name: &str) -> bool {
    let letters = name.chars().any(|c| c.is_ascii_alphabetic());
    let sign = name.chars().any(|c| "_.-".contains(c) || c.is_ascii_digit());
    let inner = name.chars().zip(name.chars().skip(1)).any(|(a, b)| a.is_lowercase() && b.is_uppercase());
    letters && (sign || inner)
}

/// The names that arguments need and a history had; the arguments' own names are the tools', not the history's.
#[must_use]
pub fn needed<'a>(arguments: impl Iterator<Item = &'a str>, history: &BTreeSet<String>) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for json in arguments {
        all.extend(self::arguments(json));
    }
    all.retain(|n| history.contains(n));
    all
}

/// The names in the values of a call's arguments.
#[must_use]
pub fn arguments(json: &str) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    match serde_json::from_str(json) {
        Ok(value) => values(&value, &mut out),
        Err(_) => out.extend(names(json)),
    }
    out
}

fn values(value: &Value, out: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => out.extend(names(text)),
        Value::Array(items) => items.iter().for_each(|v| values(v, out)),
        Value::Object(fields) => fields.values().for_each(|v| values(v, out)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// How many of the names a context shows.
#[must_use]
pub fn shown(needed: &BTreeSet<String>, context: &BTreeSet<String>) -> Use {
    Use { needed: needed.len(), shown: needed.iter().filter(|n| context.contains(*n)).count() }
}
