//! The identifiers in play: which names the agent is likely to need next, by where and when they were used.
//!
//! W1. Memory is bounded: beyond `WORDS_MAX` the least valuable half goes, in a total order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::text;

pub const VERSION: u32 = 1;

const WORDS_MAX: usize = 8192;
/// Identifiers taken from one item.
const PER_ITEM_MAX: usize = 1500;

/// Where an identifier was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    Argument,
    Said,
    Observed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stat {
    arguments: u32,
    said: u32,
    observed: u32,
    last: u64,
    /// The last time it was in an argument or said.
    used: u64,
    /// Number of the place it was last seen at.
    place: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Words {
    stats: BTreeMap<String, Stat>,
    /// Places by number: resources whose content was seen.
    places: Vec<String>,
}

/// An identifier worth showing.
#[derive(Debug, Clone, PartialEq)]
pub struct Word {
    pub name: String,
    pub place: String,
    pub value: f64,
}

impl Words {
    /// Takes note of the identifiers of a text.
    pub fn note(&mut self, content: &str, usage: Use, seq: u64, place: &str) {
        let place = self.place(place);
        for word in text::identifiers(content).take(PER_ITEM_MAX) {
            let stat = match self.stats.get_mut(word) {
                Some(stat) => stat,
                None => self.stats.entry(word.to_owned()).or_insert(Stat {
                    arguments: 0,
                    said: 0,
                    observed: 0,
                    last: 0,
                    used: 0,
                    place,
                }),
            };
            // Once per item: ten mentions in one file are one piece of evidence.
            if stat.last == seq {
                continue;
            }
            stat.last = seq;
            match usage {
                Use::Argument => stat.arguments += 1,
                Use::Said => stat.said += 1,
                Use::Observed => stat.observed += 1,
            }
            if usage != Use::Observed {
                stat.used = seq;
            }
            if place != 0 {
                stat.place = place;
            }
        }
        if self.stats.len() > WORDS_MAX {
            self.shrink(seq);
        }
    }

    fn place(&mut self, place: &str) -> u32 {
        if place.is_empty() {
            return 0;
        }
        let at = match self.places.iter().rposition(|p| p == place) {
            Some(at) => at,
            None if self.places.len() >= 512 => return 0,
            None => {
                self.places.push(place.to_owned());
                self.places.len() - 1
            }
        };
        u32::try_from(at + 1).unwrap_or(0)
    }

    fn shrink(&mut self, now: u64) {
        let mut ranked: Vec<(u64, String)> =
            self.stats.iter().map(|(w, s)| ((value(s, now) * 1e6) as u64, w.clone())).collect();
        ranked.sort_unstable();
        for (_, word) in ranked.into_iter().take(WORDS_MAX / 2) {
            self.stats.remove(&word);
        }
    }

    #[must_use]
    pub fn rows(&self) -> usize {
        self.stats.len()
    }

    /// Identifiers by falling value; ties by name.
    #[must_use]
    pub fn ranked(&self, now: u64) -> Vec<Word> {
        let mut out: Vec<Word> = self
            .stats
            .iter()
            .map(|(name, stat)| Word {
                name: name.clone(),
                place: (stat.place as usize)
                    .checked_sub(1)
                    .and_then(|at| self.places.get(at))
                    .cloned()
                    .unwrap_or_default(),
                value: value(stat, now),
            })
            .collect();
        out.sort_by(|a, b| b.value.total_cmp(&a.value).then_with(|| a.name.cmp(&b.name)));
        out
    }
}

/// Evidence times recency; powers of two by shifts, so that every machine computes the same.
fn value(stat: &Stat, now: u64) -> f64 {
    let evidence = 4 * stat.arguments.min(5) + 2 * stat.said.min(4) + stat.observed.min(4);
    let age = now.saturating_sub(stat.last.max(stat.used)) as f64;
    f64::from(evidence) / (1.0 + age / 40.0)
}
