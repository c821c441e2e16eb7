//! Changes that a command read before them may not know: everything decided since the oldest ticket.
//!
//! 1. A row decided in frame n stays until every queued command's reads are at n or later (`Watermark::settled`).
//! 2. A newer change of the same row replaces the older one and stays as long as the newer frame demands.

use std::collections::{HashMap, VecDeque};

use super::StoredHead;
use crate::graph::archive::ArchiveRow;
use crate::graph::budget::BudgetRow;
use crate::graph::context::ContextRow;
use crate::graph::ids::{Digest, FrameNumber, LineageId, SessionId};
use crate::graph::session::{GuardOutcome, GuardRow, KeyRow, SignalRow, StepRow};
use crate::graph::version::WorkflowRow;

/// Names a row that decisions look up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum RowName {
    Head(SessionId),
    /// By blake3 of the step key.
    Step(SessionId, [u8; 32]),
    Guard(Digest),
    /// By blake3 of the step key.
    GuardOutcome(SessionId, [u8; 32]),
    /// By the first half of the id's hash.
    Signal(SessionId, [u8; 16]),
    SessionKey(Digest),
    Budget(SessionId),
    /// By the hash of namespace, workflow and version.
    Workflow(Digest),
    Archive(LineageId),
    /// By its number.
    Segment(u32),
    /// How far a session is folded.
    Context(SessionId),
}

/// A row that decisions look up.
#[derive(Clone, Debug)]
pub(super) enum Row {
    Head(StoredHead),
    Step(StepRow),
    Guard(GuardRow),
    GuardOutcome(GuardOutcome),
    Signal(SignalRow),
    SessionKey(KeyRow),
    Budget(BudgetRow),
    Workflow(WorkflowRow),
    Archive(ArchiveRow),
    /// Dead bytes.
    Segment(u64),
    Context(ContextRow),
}

/// Recently decided rows.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    rows: HashMap<RowName, (FrameNumber, Row)>,
    frames: VecDeque<(FrameNumber, Vec<RowName>)>,
}

impl Overlay {
    pub(super) fn get(&self, name: &RowName) -> Option<&Row> {
        self.rows.get(name).map(|(_, row)| row)
    }

    /// Keeps a row decided in `frame`, which is not older than any before.
    pub(super) fn put(&mut self, frame: FrameNumber, name: RowName, row: Row) {
        self.rows.insert(name, (frame, row));
        match self.frames.back_mut() {
            Some((newest, names)) if *newest == frame => names.push(name),
            _ => self.frames.push_back((frame, vec![name])),
        }
    }

    /// Forgets what every reader knows by now.
    pub(super) fn settle(&mut self, settled: FrameNumber) {
        while self.frames.front().is_some_and(|(frame, _)| *frame <= settled) {
            let Some((frame, names)) = self.frames.pop_front() else { return };
            for name in names {
                if self.rows.get(&name).is_some_and(|(kept, _)| *kept == frame) {
                    self.rows.remove(&name);
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::ids::{Epoch, Seq};
    use crate::graph::session::StepState;

    fn step(seq: u64) -> Row {
        Row::Step(StepRow {
            seq: Seq(seq),
            attempt: 1,
            epoch: Epoch(1),
            state: StepState::Completed,
            input_digest: None,
            outcome_digest: None,
        })
    }

    #[test]
    fn a_row_stays_until_its_newest_change_has_settled() {
        let name = RowName::Step(SessionId([1; 16]), [2; 32]);
        let mut overlay = Overlay::default();
        overlay.put(FrameNumber(1), name, step(1));
        overlay.put(FrameNumber(3), name, step(2));
        overlay.settle(FrameNumber(2));
        assert!(overlay.get(&name).is_some(), "frame 3 is still unknown to a reader at frame 2"); // 2
        overlay.settle(FrameNumber(3));
        assert_eq!((overlay.get(&name).is_none(), overlay.len()), (true, 0)); // 1
    }
}
