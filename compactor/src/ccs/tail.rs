//! The verbatim tail: which of the newest units stay, and how much of each is shown.

use super::dead::Chains;
use super::duplicates::Duplicates;
use super::logs;
use super::mask::Unit;
use super::normalise::{Item, Kind};
use super::route::{self, Content};
use super::tokens::Vocabulary;
use super::{handle, render, text};

/// What the choice reads.
pub struct Around<'a> {
    pub chains: &'a Chains,
    pub duplicates: &'a Duplicates,
    pub vocabulary: Vocabulary,
    /// Tokens that the tail may take.
    pub share: usize,
}

/// An item of the tail and the message that stands for it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Shown {
    pub item: Item,
    pub message: String,
    pub tokens: usize,
}

/// Groups items into units, in the order of their first items. A result belongs to the call with its id.
#[must_use]
pub fn units(items: &[Item]) -> Vec<Unit<'_>> {
    let mut out: Vec<Unit<'_>> = Vec::new();
    let mut open: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    for item in items {
        match &item.kind {
            Kind::Call { id, .. } => {
                open.insert(id.as_str(), out.len());
                out.push(Unit { head: item, result: None });
            }
            Kind::Observation { call, .. } => match open.remove(call.as_str()).and_then(|n| out.get_mut(n)) {
                Some(unit) => unit.result = Some(item),
                None => out.push(Unit { head: item, result: None }),
            },
            Kind::User | Kind::Notice | Kind::Assistant | Kind::Reasoning => {
                out.push(Unit { head: item, result: None })
            }
        }
    }
    out
}

/// Walks back from the newest unit and keeps what fits. Returns, per unit, the messages shown; none: sealed.
#[must_use]
pub fn choose(units: &[Unit<'_>], around: &Around<'_>) -> Vec<Option<Vec<Shown>>> {
    let mut out: Vec<Option<Vec<Shown>>> = vec![None; units.len()];
    let mut left = around.share;
    let mut open = true;
    for (unit, slot) in units.iter().zip(out.iter_mut()).rev() {
        // A call whose result is still to come stays: the result must find it.
        let waiting = matches!(unit.head.kind, Kind::Call { .. }) && unit.result.is_none();
        if !open && !waiting {
            continue;
        }
        let shown = show(*unit, left, around);
        let cost: usize = shown.iter().map(|s| s.tokens).sum();
        if cost <= left || waiting {
            left = left.saturating_sub(cost);
            *slot = Some(shown);
        } else {
            open = false;
        }
    }
    out
}

fn show(unit: Unit<'_>, left: usize, around: &Around<'_>) -> Vec<Shown> {
    let share = around.share;
    match (&unit.head.kind, unit.result) {
        (Kind::Call { resources, .. }, result) => {
            let mut out = vec![cut(unit.head, (share / 3).min(left), around)];
            let Some(result) = result else { return out };
            let killer = resources.first().and_then(|r| around.chains.killer(unit.head.seq, r));
            let stub = match (killer, around.duplicates.earlier(result.hash, result.seq)) {
                (Some(by), _) if result.tokens > 40 => {
                    Some(format!("[superseded by {}: {}]", handle::show(by), handle::show(result.seq)))
                }
                (_, Some(first)) => Some(format!("[same as {}]", handle::show(first))),
                _ => None,
            };
            let rest = left.saturating_sub(out.iter().map(|s| s.tokens).sum());
            out.push(match stub {
                Some(stub) => shown(result, &stub, around.vocabulary),
                None => cut(result, (share * 2 / 5).min(rest), around),
            });
            out
        }
        (Kind::Reasoning, _) => vec![cut(unit.head, (share / 10).min(left), around)],
        _ => vec![cut(unit.head, (share / 3).min(left), around)],
    }
}

/// An item in at most about `max` tokens.
fn cut(item: &Item, max: usize, around: &Around<'_>) -> Shown {
    if item.tokens <= max || matches!(item.kind, Kind::User) {
        return shown(item, &item.text, around.vocabulary);
    }
    let bytes = item.text.len() * max / item.tokens.max(1);
    let short = match &item.kind {
        Kind::Observation { .. } => {
            logs::excerpt(&item.text, bytes, route::content(&item.text) == Content::Log, item.seq)
        }
        _ => {
            let head = text::prefix(&item.text, bytes);
            format!("{head}… [{} characters: {}]", item.text.len(), handle::show(item.seq))
        }
    };
    shown(item, &short, around.vocabulary)
}

/// A message with its tokens.
#[must_use]
pub fn shown(item: &Item, text: &str, vocabulary: Vocabulary) -> Shown {
    let message = render::with_text(item, text);
    let tokens = vocabulary.count(&message);
    Shown { item: item.clone(), message, tokens }
}
