//! What each pass took out of the context, in tokens: for people who compare the raw history with the compacted one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::dead::Chains;
use super::duplicates::Duplicates;
use super::mask::Unit;
use super::normalise::Kind;
use super::resource::Mode;
use super::tail::Shown;

/// Tokens taken out, by pass: of what is sealed, and of what the tail shows shortened.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Removed {
    sealed: BTreeMap<String, usize>,
    tail: BTreeMap<String, usize>,
}

impl Removed {
    /// Counts a unit that was sealed, less the line that stands for it.
    pub fn seal(&mut self, unit: Unit<'_>, line_tokens: usize, why: &'static str) {
        let raw = unit.head.tokens + unit.result.map_or(0, |r| r.tokens);
        *self.sealed.entry(why.to_owned()).or_default() += raw.saturating_sub(line_tokens);
    }

    /// Counts what the tail shows of its items; replaces the count of the tail before.
    pub fn tail(&mut self, kept: &[Shown], duplicates: &Duplicates) {
        self.tail.clear();
        for shown in kept.iter().filter(|s| s.tokens < s.item.tokens) {
            let why = match () {
                () if duplicates.earlier(shown.item.hash, shown.item.seq).is_some() => "deduplicate",
                () if shown.message.starts_with("[superseded") => "eliminate-dead",
                () => "mine-logs",
            };
            *self.tail.entry(why.to_owned()).or_default() += shown.item.tokens - shown.tokens;
        }
    }

    /// Passes with the tokens that they took out, by name.
    #[must_use]
    pub fn by_pass(&self) -> BTreeMap<String, usize> {
        let mut out = self.sealed.clone();
        for (pass, tokens) in &self.tail {
            *out.entry(pass.clone()).or_default() += tokens;
        }
        out
    }
}

/// The pass that a sealed unit fell to.
#[must_use]
pub fn why(unit: Unit<'_>, chains: &Chains, duplicates: &Duplicates) -> &'static str {
    let Kind::Call { resources, .. } = &unit.head.kind else { return "mask" };
    let main = resources.first();
    match () {
        () if main.is_some_and(|r| chains.killer(unit.head.seq, r).is_some()) => "eliminate-dead",
        () if unit.result.is_some_and(|r| duplicates.earlier(r.hash, r.seq).is_some()) => "deduplicate",
        () if main.is_some_and(|r| r.mode == Mode::Write) => "coalesce-edits",
        () => "mask",
    }
}
