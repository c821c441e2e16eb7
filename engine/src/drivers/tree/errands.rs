//! The errands that are open: first come, first served, each once, no more than fit.

use std::collections::{HashSet, VecDeque};

use crate::graph::ids::SessionId;

/// Errands kept in memory; beyond it everything is looked at instead (T3).
const ERRANDS_MAX: usize = 65_536;
/// When an errand that the ledger had no room for is tried again, in milliseconds.
pub const AGAIN_MS: u64 = 200;
/// When one is tried again that met something unreadable, in milliseconds: a person has to look at it first.
pub const AGAIN_BROKEN_MS: u64 = 5_000;

/// Something to be carried from one session to another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Errand {
    /// Start what a session named.
    Start { by: SessionId, session: SessionId },
    /// Bring a child and its parent to know of each other what they should.
    Settle { child: SessionId },
}

/// The queue.
#[derive(Default)]
pub struct Errands {
    queue: VecDeque<Errand>,
    known: HashSet<Errand>,
    later: Vec<(u64, Errand)>,
    /// When everything is to be looked at.
    all_from_ms: Option<u64>,
}

impl Errands {
    /// Nothing but a look at everything.
    pub fn all() -> Self {
        Self { all_from_ms: Some(0), ..Self::default() }
    }

    /// Errands that wait to be done at once.
    pub fn len(&self) -> usize {
        self.queue.len() + usize::from(self.all_from_ms.is_some())
    }

    /// Adds errands that are not there yet.
    pub fn extend(&mut self, errands: impl IntoIterator<Item = Errand>) {
        for errand in errands {
            if self.known.len() >= ERRANDS_MAX {
                self.all_from_ms = self.all_from_ms.or(Some(0));
            } else if self.known.insert(errand) {
                self.queue.push_back(errand);
            }
        }
    }

    /// Tries an errand again at `at_ms`.
    pub fn later(&mut self, errand: Errand, at_ms: u64) {
        if self.later.len() >= ERRANDS_MAX {
            return self.all_later(at_ms);
        }
        self.later.push((at_ms, errand));
    }

    /// Looks at everything at `at_ms`.
    pub fn all_later(&mut self, at_ms: u64) {
        self.all_from_ms = Some(at_ms.max(1));
    }

    /// True if something is to be done now.
    pub fn is_due(&self, now_ms: u64) -> bool {
        !self.queue.is_empty()
            || self.all_from_ms.is_some_and(|from_ms| from_ms <= now_ms)
            || self.later.iter().any(|(at_ms, _)| *at_ms <= now_ms)
    }

    /// True if everything is to be looked at now, which is done with when the queue is empty.
    pub fn take_all(&mut self) -> bool {
        self.queue.is_empty() && self.all_from_ms.take_if(|from_ms| *from_ms == 0).is_some()
    }

    /// The errands to be done now, at most `max`.
    pub fn take(&mut self, max: usize, now_ms: u64) -> Vec<Errand> {
        if self.all_from_ms.is_some_and(|from_ms| from_ms <= now_ms) {
            self.all_from_ms = Some(0);
        }
        let due: Vec<Errand> =
            self.later.extract_if(.., |(at_ms, _)| *at_ms <= now_ms).map(|(_, errand)| errand).collect();
        self.extend(due);
        let count = max.min(self.queue.len());
        let taken: Vec<Errand> = self.queue.drain(..count).collect();
        for errand in &taken {
            self.known.remove(errand);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(n: u32) -> Errand {
        let [a, b, c, d] = n.to_be_bytes();
        Errand::Settle { child: SessionId([a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) }
    }

    #[test]
    fn t3_an_errand_is_kept_once_and_they_are_done_in_order() {
        let mut errands = Errands::default();
        errands.extend([settle(1), settle(2), settle(1), settle(3)]);
        assert_eq!(errands.take(2, 0), [settle(1), settle(2)]);
        errands.extend([settle(1)]);
        assert_eq!(errands.take(9, 0), [settle(3), settle(1)]);
    }

    #[test]
    fn t4_what_could_not_be_done_comes_back_after_a_while() {
        let mut errands = Errands::default();
        errands.later(settle(1), 1_000);
        assert!(!errands.is_due(999) && errands.is_due(1_000));
        assert_eq!(errands.take(9, 999), []);
        assert_eq!(errands.take(9, 1_000), [settle(1)]);
    }

    #[test]
    fn t3_what_does_not_fit_is_found_by_looking_at_everything() {
        let mut errands = Errands::all();
        assert!(errands.take_all() && !errands.take_all());
        let most = u32::try_from(ERRANDS_MAX).unwrap();
        errands.extend((0..=most).map(settle));
        assert!(!errands.take_all(), "first what fitted");
        assert_eq!(errands.take(usize::MAX, 0).len(), ERRANDS_MAX);
        assert!(errands.take_all());
        errands.all_later(500);
        assert!(!errands.take_all() && !errands.is_due(499) && errands.is_due(500));
        errands.take(1, 500);
        assert!(errands.take_all());
    }
}
