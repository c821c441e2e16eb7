//! What becomes due (attempts of guarded steps, timers, waits): submitted, so that the graph says what comes of it.
//!
//! Invariants:
//! - Y1 What is due is submitted in the order of due times, and again after `AGAIN_MS` while it stays in the index. The
//!   graph makes a second submission harmless.
//! - Y2 At most `IN_FLIGHT_MAX` submissions are unanswered, so that many timers of one moment leave room in the queue.
//! - Y3 Rows that are gone are not walked over again: a look begins at the earliest due time that may still have one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::graph::command::{Cancel, Command};
use crate::graph::event::Author;
use crate::graph::ids::{Seq, SessionId, TimeMs};
use crate::graph::index::{DueKind, next_due};
use crate::ledger::{CommittedEvents, DueRow, Handle, Observer, Origin, ReadError, Refused, Submission};

/// Most submissions without an answer: two full frames, so that one is decided while the other syncs, and half of the
/// queue at its default length.
const IN_FLIGHT_MAX: usize = 2_048;
/// Rows of the index read in one look: those in flight may still be there, and must not hide the rest.
const ROWS_MAX: usize = 2 * IN_FLIGHT_MAX;
/// When something that is still due is submitted again, in milliseconds.
const AGAIN_MS: u64 = 1_000;

/// Looks at the due index when something in it has become due.
pub struct Due {
    handle: Handle,
    agenda: Arc<Agenda>,
    submitted: Mutex<Submitted>,
    flight: Arc<Flight>,
}

/// Submissions without an answer.
#[derive(Default)]
struct Flight {
    count: AtomicUsize,
    /// The queue took nothing more.
    refused: AtomicBool,
    /// There is room again, or something becomes due earlier than was known.
    wake: Notify,
}

/// When to look again, and from where.
struct Looked {
    next_ms: u64,
    floor_ms: u64,
}

impl Due {
    /// Starts with a look at the first chance.
    pub fn new(handle: Handle) -> Self {
        Self { handle, agenda: Arc::default(), submitted: Mutex::default(), flight: Arc::default() }
    }

    /// Milliseconds until something may be due.
    pub fn due_in_ms(&self, wall_ms: u64) -> u64 {
        self.agenda.next_ms().saturating_sub(wall_ms)
    }

    /// Resolves when it is worth looking before the time that `due_in_ms` said.
    pub async fn sooner(&self) {
        self.flight.wake.notified().await;
    }

    /// Submits what is due.
    pub fn look(&self, wall_ms: u64, mono_ms: u64) {
        let Some(floor_ms) = self.agenda.begin(wall_ms) else { return };
        let looked = self.submit_due(floor_ms, wall_ms, mono_ms).unwrap_or_else(|error| {
            tracing::error!(%error, "the due index cannot be read"); // V3
            Looked { next_ms: wall_ms.saturating_add(AGAIN_MS), floor_ms }
        });
        self.agenda.set(&looked);
    }

    fn submit_due(&self, floor_ms: u64, wall_ms: u64, mono_ms: u64) -> Result<Looked, ReadError> {
        let page = self.handle.reader().due(TimeMs(floor_ms), TimeMs(wall_ms), ROWS_MAX)?;
        let after_ms = page.next.map_or(u64::MAX, |due| due.0);
        let Some(first) = page.rows.first() else {
            return Ok(Looked { next_ms: after_ms, floor_ms: after_ms }); // Y3
        };
        let floor_ms = first.due.0;
        let room = IN_FLIGHT_MAX.saturating_sub(self.flight.count.load(Ordering::Acquire)); // Y2
        let (fresh, left) = self.submitted.lock().fresh(page.rows, mono_ms, room);
        self.flight.refused.store(false, Ordering::Release);
        for (n, row) in fresh.iter().enumerate() {
            self.submit(row)?;
            if self.flight.refused.load(Ordering::Acquire) {
                // Y1: what comes after the one that was refused waits for it.
                self.submitted.lock().forget(fresh.get(n..).unwrap_or_default());
                break;
            }
        }
        // They leave the index when they are durable; whoever answers the last of them wakes us if there is more.
        let again_ms = wall_ms.saturating_add(super::TICK_MS);
        let next_ms = if left { again_ms } else { again_ms.min(after_ms) };
        Ok(Looked { next_ms, floor_ms })
    }

    fn submit(&self, row: &DueRow) -> Result<(), ReadError> {
        let Some(command) = self.command(row)? else { return Ok(()) };
        let submission = Submission {
            command,
            blobs: self.handle.blobs(&[0; 32]),
            evidence: None,
            new_lineage: None,
            origin: Origin(None),
        };
        let (session, flight, agenda) = (row.session, Arc::clone(&self.flight), Arc::clone(&self.agenda));
        flight.count.fetch_add(1, Ordering::AcqRel);
        let told = move |result: Result<_, Refused>| {
            let before = flight.count.fetch_sub(1, Ordering::AcqRel);
            match result {
                Err(Refused::Rejected(rejection)) => {
                    // An outcome came first, or the head's time is ahead of ours.
                    tracing::debug!(%session, code = ?rejection.code, "nothing was due after all");
                }
                Err(Refused::Overloaded { .. }) => flight.refused.store(true, Ordering::Release),
                Ok(_) | Err(Refused::Failed(_) | Refused::Closed) => {}
            }
            if before == IN_FLIGHT_MAX / 2 {
                agenda.again();
                flight.wake.notify_one();
            }
        };
        self.handle.submit_with(submission, Box::new(told));
        Ok(())
    }

    /// The command for a row; `None`: it has been settled since the row was read.
    fn command(&self, row: &DueRow) -> Result<Option<Command>, ReadError> {
        let DueRow { session, seq, .. } = *row;
        match row.kind {
            DueKind::Budget => Ok(Some(Command::BudgetDue { session })),
            // Its cleanup runs like anybody else's.
            DueKind::Deadline => Ok(Some(Command::Cancel(Cancel {
                session,
                reason: TIMED_OUT.into(),
                by: "engine".into(),
                author: Author::Driver,
            }))),
            DueKind::Retention => {
                let kept = self.handle.reader().kept_keys(session, row.due, seq, KEPT_ROWS_MAX)?;
                Ok(Some(Command::ForgetKeys(kept)))
            }
            DueKind::Timer | DueKind::Wait => Ok(Some(Command::WaitDue { session, seq })),
            DueKind::Intent => {
                let head = self.handle.reader().head(session)?;
                let open = head.and_then(|head| head.intents.iter().find(|open| open.seq == seq).cloned());
                Ok(open.map(|open| Command::IntentDue {
                    session,
                    step_key: open.step_key,
                    attempt: open.attempt,
                }))
            }
        }
    }
}

impl Observer for Due {
    fn committed(&self, committed: &CommittedEvents) {
        let retention_ms = self.handle.settings().guard_retention_ms;
        if let Some(due) = next_due(&committed.head, retention_ms)
            && self.agenda.note(due.0)
        {
            self.flight.wake.notify_one();
        }
    }
}

/// Most rows of idempotency keys dropped at once.
const KEPT_ROWS_MAX: usize = 512;

/// Why a session is cancelled whose time is over.
const TIMED_OUT: &str = "timed out";

/// When something may be due next and the earliest due time that may have a row, in wall milliseconds. Lock-free,
/// because the committer notes what is opened. What is noted is durable, so that a look that begins after it sees it.
struct Agenda {
    next: AtomicU64,
    floor: AtomicU64,
}

impl Default for Agenda {
    fn default() -> Self {
        Self { next: AtomicU64::new(0), floor: AtomicU64::new(0) }
    }
}

impl Agenda {
    fn next_ms(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// Notes that something becomes due; true if it does so before anything else that is known.
    fn note(&self, due_ms: u64) -> bool {
        self.floor.fetch_min(due_ms, Ordering::AcqRel);
        self.next.fetch_min(due_ms, Ordering::AcqRel) > due_ms
    }

    /// Lets the next look begin at once.
    fn again(&self) {
        self.next.store(0, Ordering::Release);
    }

    fn set(&self, looked: &Looked) {
        self.floor.fetch_min(looked.floor_ms, Ordering::AcqRel);
        self.next.fetch_min(looked.next_ms, Ordering::AcqRel);
    }

    /// Where to look from, if a look is due; what is noted from then on is for the next look.
    fn begin(&self, wall_ms: u64) -> Option<u64> {
        let due = self.next_ms() <= wall_ms;
        due.then(|| {
            self.next.store(u64::MAX, Ordering::Release);
            self.floor.swap(u64::MAX, Ordering::AcqRel)
        })
    }
}

/// What was submitted and may still be in the index.
#[derive(Default)]
struct Submitted(HashMap<(SessionId, Seq), u64>);

impl Submitted {
    /// The rows to submit now, at most `max`: those not submitted within the last `AGAIN_MS` (Y1); and whether others
    /// are left.
    fn fresh(&mut self, rows: Vec<DueRow>, mono_ms: u64, max: usize) -> (Vec<DueRow>, bool) {
        self.0.retain(|_, at_ms| at_ms.saturating_add(AGAIN_MS) > mono_ms);
        let mut fresh = rows;
        fresh.retain(|row| !self.0.contains_key(&(row.session, row.seq)));
        let left = fresh.len() > max;
        fresh.truncate(max);
        self.0.extend(fresh.iter().map(|row| ((row.session, row.seq), mono_ms)));
        (fresh, left)
    }

    fn forget(&mut self, rows: &[DueRow]) {
        for row in rows {
            self.0.remove(&(row.session, row.seq));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock as _, Manual};

    fn row(n: u8) -> DueRow {
        DueRow { due: TimeMs(0), session: SessionId([n; 16]), kind: DueKind::Timer, seq: Seq(1) }
    }

    #[test]
    fn v1_the_agenda_is_begun_when_something_is_due_and_not_before() {
        let clock = Manual::at(1_000_000);
        let agenda = Agenda::default();
        let begun = |clock: &Manual| agenda.begin(clock.wall_ms());
        assert_eq!(begun(&clock), Some(0), "the first look finds what a former engine left");
        assert_eq!(begun(&clock), None);
        assert!(agenda.note(1_003_000));
        assert!(!agenda.note(1_009_000), "later than what is known");
        clock.advance(2_999);
        assert_eq!(begun(&clock), None);
        clock.advance(1);
        assert_eq!(begun(&clock), Some(1_003_000)); // Y3
        assert_eq!(agenda.next_ms(), u64::MAX, "the look itself says what comes next");
    }

    #[test]
    fn y3_what_is_noted_while_a_look_goes_on_is_not_passed_over() {
        let agenda = Agenda::default();
        assert_eq!(agenda.begin(5_000), Some(0));
        agenda.note(4_000);
        agenda.set(&Looked { next_ms: 9_000, floor_ms: 9_000 });
        assert_eq!(agenda.begin(5_000), Some(4_000));
    }

    #[test]
    fn y1_what_stays_due_is_submitted_again_after_a_while() {
        let mut submitted = Submitted::default();
        let all = usize::MAX;
        assert_eq!(submitted.fresh(vec![row(1)], 0, all), (vec![row(1)], false));
        assert_eq!(submitted.fresh(vec![row(1), row(2)], AGAIN_MS - 1, all).0, [row(2)]);
        assert_eq!(submitted.fresh(vec![row(1), row(2)], AGAIN_MS, all).0, [row(1)]);
    }

    #[test]
    fn y2_no_more_than_there_is_room_for_and_what_was_refused_is_fresh_again() {
        let mut submitted = Submitted::default();
        assert_eq!(submitted.fresh(vec![row(1), row(2), row(3)], 0, 2), (vec![row(1), row(2)], true));
        submitted.forget(&[row(2)]);
        assert_eq!(submitted.fresh(vec![row(1), row(2), row(3)], 0, 2), (vec![row(2), row(3)], false));
    }
}
