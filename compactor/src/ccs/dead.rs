//! Pass `eliminate dead` (4): version chains per resource, and what a later event made worthless.
//!
//! D1. A read is dead after a later read that covers its range, or after a write of the whole resource.
//! D2. A run's output is dead after the same command ran again; its outcome lives on in the facts.
//! D3. A status list (kind `todo`) is dead after the next one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::resource::{Mode, Range, Resource};

pub const VERSION: u32 = 1;

/// Reads remembered per resource, and resources remembered: the newest.
const READS_MAX: usize = 16;
const RESOURCES_MAX: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Chain {
    reads: Vec<(u64, Option<Range>)>,
    /// The last whole write, delete or run.
    whole: u64,
    /// The last write of any part.
    changed: u64,
    touched: u64,
}

/// The version chains of a session.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Chains {
    by_resource: BTreeMap<String, Chain>,
    by_touch: BTreeMap<u64, String>,
}

fn key(resource: &Resource) -> String {
    format!("{}\0{}", resource.kind, resource.id)
}

impl Chains {
    /// Takes note of what a call touches.
    pub fn note(&mut self, seq: u64, resource: &Resource) {
        let key = key(resource);
        let chain = self.by_resource.entry(key.clone()).or_default();
        if self.by_touch.get(&chain.touched) == Some(&key) {
            self.by_touch.remove(&chain.touched);
        }
        chain.touched = seq;
        match (resource.mode, resource.range) {
            (Mode::Read, range) => {
                chain.reads.push((seq, range));
                if chain.reads.len() > READS_MAX {
                    chain.reads.remove(0);
                }
            }
            (Mode::Write, Some(_)) => chain.changed = seq,
            (Mode::Write | Mode::Delete, _) => (chain.changed, chain.whole) = (seq, seq),
            (Mode::Run, _) => chain.whole = seq,
        }
        // One call may touch several resources: the others keep their older place and age a little sooner.
        self.by_touch.entry(seq).or_insert(key);
        while self.by_resource.len() > RESOURCES_MAX {
            let Some((_, oldest)) = self.by_touch.pop_first() else { break };
            self.by_resource.remove(&oldest);
        }
    }

    /// The event that made this call's output dead.
    #[must_use]
    pub fn killer(&self, seq: u64, resource: &Resource) -> Option<u64> {
        let chain = self.by_resource.get(&key(resource))?;
        if chain.whole > seq {
            return Some(chain.whole);
        }
        if resource.mode != Mode::Read {
            return (resource.kind == "todo" && chain.changed > seq).then_some(chain.changed);
        }
        let covers = |later: &Option<Range>| match (later, resource.range) {
            (None, _) => true,
            (Some(later), Some(mine)) => later.covers(mine),
            (Some(_), None) => false,
        };
        chain.reads.iter().find(|(at, range)| *at > seq && covers(range)).map(|(at, _)| *at)
    }

    /// Whether the resource changed after this event.
    #[must_use]
    pub fn changed_since(&self, seq: u64, resource: &Resource) -> bool {
        self.by_resource.get(&key(resource)).is_some_and(|c| c.changed > seq)
    }
}
