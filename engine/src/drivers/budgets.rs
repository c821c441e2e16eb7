//! Sessions that wait for a larger budget: resumed when it was raised.
//!
//! Invariants:
//! - R1 Every live session that is paused for want of budget and under an owner is resumed after the owner was raised:
//!   when the raise becomes durable, or at the engine's next start if it died between.
//! - R2 What was paused after the raise stays paused, but for a moment: who was refused before the raise may pause after
//!   it, and only asks again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::graph::command::{Command, Resume};
use crate::graph::event::{Body, PauseReason};
use crate::graph::session::{Head, Status};
use crate::ledger::{CommittedEvents, Handle, Observer, Origin, ReadError, Submission};

/// How long after a raise a pause may come from before it, in milliseconds.
const CROSSING_MS: u64 = 1_000;

/// Looks for paused sessions when a budget was raised.
pub struct Budgets {
    handle: Handle,
    raised: AtomicBool,
}

impl Budgets {
    /// Starts with a look at the first chance (R1).
    pub fn new(handle: Handle) -> Self {
        Self { handle, raised: AtomicBool::new(true) }
    }

    /// Resumes what may go on.
    pub fn look(&self) {
        if !self.raised.swap(false, Ordering::AcqRel) {
            return;
        }
        if let Err(error) = self.resume_all() {
            tracing::error!(%error, "sessions paused for want of budget cannot be read");
            self.raised.store(true, Ordering::Release);
        }
    }

    fn resume_all(&self) -> Result<(), ReadError> {
        let reader = self.handle.reader();
        for session in reader.live()? {
            let Some(head) = reader.head(session)? else { continue };
            if self.may_go_on(&head)? {
                self.resume(&head);
            }
        }
        Ok(())
    }

    fn may_go_on(&self, head: &Head) -> Result<bool, ReadError> {
        if !matches!(head.status, Status::Paused { reason: PauseReason::Budget, .. }) {
            return Ok(false);
        }
        for owner in &head.budget.owners {
            let row = self.handle.reader().budget(owner.session)?;
            if row.is_some_and(|row| row.raised.0 > 0 && row.raised.plus(CROSSING_MS) >= head.time) {
                return Ok(true); // R2
            }
        }
        Ok(false)
    }

    fn resume(&self, head: &Head) {
        let session = head.session;
        let resume = Resume { session, by: "budget".into(), dedupe: None, retry: false };
        let submission = Submission {
            command: Command::Resume(resume),
            blobs: self.handle.blobs(&[0; 32]),
            evidence: None,
            new_lineage: None,
            origin: Origin(None),
        };
        self.handle.submit_with(submission, Box::new(|_| {}));
    }
}

impl Observer for Budgets {
    fn committed(&self, committed: &CommittedEvents) {
        let raised = |body: &Body| {
            matches!(
                body,
                Body::BudgetRaised { .. } | Body::SessionPaused { reason: PauseReason::Budget, .. }
            )
        };
        if committed.events.iter().any(|stored| raised(&stored.event.body)) {
            self.raised.store(true, Ordering::Release);
        }
    }
}

/// Observes the ledger from now on.
pub fn start(handle: Handle) -> Arc<Budgets> {
    let budgets = Arc::new(Budgets::new(handle.clone()));
    handle.observe(Arc::clone(&budgets) as Arc<dyn Observer>);
    budgets
}
