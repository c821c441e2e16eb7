//! Guarded attempts whose time and grace are over: submitted, so that their policy decides.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::graph::command::Command;
use crate::graph::event::Body;
use crate::graph::ids::{SessionId, StepKey, TimeMs};
use crate::ledger::{CommittedEvents, DueRow, Handle, Observer, Origin, ReadError, Refused, Submission};

/// Rows of the due index handled in one look.
const ROWS_MAX: usize = 256;
/// When an intent that is still due is submitted again, in milliseconds.
const AGAIN_MS: u64 = 1_000;

/// Looks at the due index when something in it has become due.
pub struct Intents {
    handle: Handle,
    agenda: Agenda,
    submitted: Mutex<Submitted>,
}

impl Intents {
    /// Starts with a look at the first chance.
    pub fn new(handle: Handle) -> Self {
        Self { handle, agenda: Agenda::default(), submitted: Mutex::default() }
    }

    /// Milliseconds until something may be due.
    pub fn due_in_ms(&self, wall_ms: u64) -> u64 {
        self.agenda.next_ms().saturating_sub(wall_ms)
    }

    /// Submits what is due.
    pub fn look(&self, wall_ms: u64, mono_ms: u64) {
        if !self.agenda.begin(wall_ms) {
            return;
        }
        match self.submit_due(wall_ms, mono_ms) {
            Ok(next_ms) => self.agenda.note(next_ms),
            Err(error) => {
                tracing::error!(%error, "the due index cannot be read"); // V3
                self.agenda.note(wall_ms.saturating_add(AGAIN_MS));
            }
        }
    }

    /// Returns when to look again.
    fn submit_due(&self, wall_ms: u64, mono_ms: u64) -> Result<u64, ReadError> {
        let rows = self.handle.reader().due(TimeMs(wall_ms), ROWS_MAX)?;
        if rows.is_empty() {
            return Ok(self.handle.reader().next_due()?.map_or(u64::MAX, |due| due.0));
        }
        for row in self.submitted.lock().fresh(rows, mono_ms) {
            self.submit(row);
        }
        // They leave the index when they are durable; until then there is nothing to learn from it.
        Ok(wall_ms.saturating_add(super::TICK_MS))
    }

    fn submit(&self, row: DueRow) {
        let DueRow { session, step_key, attempt, .. } = row;
        let submission = Submission {
            command: Command::IntentDue { session, step_key, attempt },
            blobs: self.handle.blobs(&[0; 32]),
            evidence: None,
            new_lineage: None,
            origin: Origin(None),
        };
        let told = move |result: Result<_, Refused>| {
            if let Err(Refused::Rejected(rejection)) = result {
                // An outcome came first, or the head's time is ahead of ours.
                tracing::debug!(%session, code = ?rejection.code, "intent was not due after all");
            }
        };
        self.handle.submit_with(submission, Box::new(told));
    }
}

impl Observer for Intents {
    fn committed(&self, committed: &CommittedEvents) {
        for stored in committed.events.iter() {
            if let Body::GuardIntent(intent) = &stored.event.body {
                let due = stored.event.time.plus(intent.attempt_ms).plus(intent.grace_ms);
                self.agenda.note(due.0);
            }
        }
    }
}

/// When something may be due next, in wall milliseconds. Lock-free, because the committer notes every intent.
#[derive(Default)]
struct Agenda(AtomicU64);

impl Agenda {
    fn next_ms(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Notes that something becomes due.
    fn note(&self, due_ms: u64) {
        self.0.fetch_min(due_ms, Ordering::AcqRel);
    }

    /// True if a look is due; what is noted from then on is for the next look.
    fn begin(&self, wall_ms: u64) -> bool {
        let due = self.next_ms() <= wall_ms;
        if due {
            self.0.store(u64::MAX, Ordering::Release);
        }
        due
    }
}

/// What was submitted and may still be in the index.
#[derive(Default)]
struct Submitted(HashMap<(SessionId, StepKey, u32), u64>);

impl Submitted {
    /// The rows to submit now: those not submitted within the last `AGAIN_MS` (V1).
    fn fresh(&mut self, rows: Vec<DueRow>, mono_ms: u64) -> Vec<DueRow> {
        self.0.retain(|_, at_ms| at_ms.saturating_add(AGAIN_MS) > mono_ms);
        let mut fresh = rows;
        fresh.retain(|row| {
            let key = (row.session, row.step_key.clone(), row.attempt);
            match self.0.entry(key) {
                std::collections::hash_map::Entry::Occupied(_) => false,
                std::collections::hash_map::Entry::Vacant(vacant) => {
                    vacant.insert(mono_ms);
                    true
                }
            }
        });
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock as _, Manual};

    fn row(step_key: &str) -> DueRow {
        DueRow { due: TimeMs(0), session: SessionId::default(), step_key: step_key.into(), attempt: 1 }
    }

    #[test]
    fn v1_the_agenda_is_begun_when_something_is_due_and_not_before() {
        let clock = Manual::at(1_000_000);
        let agenda = Agenda::default();
        assert!(agenda.begin(clock.wall_ms()), "the first look finds what a former engine left");
        assert!(!agenda.begin(clock.wall_ms()));
        agenda.note(1_003_000);
        agenda.note(1_009_000);
        clock.advance(2_999);
        assert!(!agenda.begin(clock.wall_ms()));
        clock.advance(1);
        assert!(agenda.begin(clock.wall_ms()));
        assert_eq!(agenda.next_ms(), u64::MAX, "the look itself says what comes next");
    }

    #[test]
    fn v1_what_stays_due_is_submitted_again_after_a_while() {
        let mut submitted = Submitted::default();
        assert_eq!(submitted.fresh(vec![row("a")], 0).len(), 1);
        assert_eq!(submitted.fresh(vec![row("a"), row("b")], AGAIN_MS - 1), [row("b")]);
        assert_eq!(submitted.fresh(vec![row("a"), row("b")], AGAIN_MS), [row("a")]);
    }
}
