//! Pass `deduplicate` (3): identical content is stated once; later ones point at the first.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub const VERSION: u32 = 1;

/// Shorter contents cost less than a pointer.
const BYTES_MIN: usize = 200;
/// Contents that are remembered; the oldest are forgotten first.
const KEPT_MAX: usize = 4096;

/// Which event stated a content first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Duplicates {
    first: BTreeMap<u64, u64>,
    order: BTreeMap<u64, u64>,
}

impl Duplicates {
    /// Takes note of a content.
    pub fn note(&mut self, hash: u64, bytes: usize, seq: u64) {
        if bytes < BYTES_MIN || self.first.contains_key(&hash) {
            return;
        }
        self.first.insert(hash, seq);
        self.order.insert(seq, hash);
        if self.order.len() > KEPT_MAX
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.first.remove(&oldest);
        }
    }

    /// The earlier event with the same content.
    #[must_use]
    pub fn earlier(&self, hash: u64, seq: u64) -> Option<u64> {
        self.first.get(&hash).copied().filter(|first| *first < seq)
    }
}
