//! What sessions do to one another, carried over: children and successors are started, ends are brought back, requests to
//! cancel and terminations go down.
//!
//! Owns: which errands are open, and trying again. Never: writes, decides, or remembers what the ledger does not say: an
//! errand is done by looking at both sessions as they are and submitting what is missing, so doing one twice is harmless
//! and losing all of them is made up for by looking at everything once (`recover`).
//!
//! Invariants:
//! - T1 Whatever was named by a spawn or a continuation is started: its row (`ToStart`) goes only with its first event.
//! - T2 A child that has ended and is waited for is reported; one that is to be cancelled or terminated is asked.
//! - T3 Work per look and errands in memory are bounded; what does not fit is found again by looking at everything.
//! - T4 A full queue or an unreadable ledger delays an errand and ends none.

mod carry;
mod errands;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::graph::event::Body;
use crate::graph::ids::SessionId;
use crate::graph::session::Head;
use crate::ledger::{CommittedEvents, Handle, Observer, ReadError, Refused, Submission};

use errands::{AGAIN_BROKEN_MS, AGAIN_MS, Errand, Errands};

/// Errands done in one go, off the threads that serve connections.
const LOOK_ERRANDS_MAX: usize = 64;
/// Rows of the index of what is to be started that are read in one go.
const ROWS_MAX: usize = 4_096;
/// When to look whether a delayed errand may be done, in milliseconds.
const TICK_MS: u64 = 100;

/// See the module.
pub struct Tree {
    handle: Handle,
    clock: Arc<dyn Clock>,
    errands: Arc<Mutex<Errands>>,
    wake: Notify,
}

impl Tree {
    /// Starts with a look at everything (T3).
    pub fn new(handle: Handle, clock: Arc<dyn Clock>) -> Self {
        let errands = Arc::new(Mutex::new(Errands::all()));
        Self { handle, clock, errands, wake: Notify::new() }
    }

    /// Does errands until dropped.
    pub async fn run(self: Arc<Self>) {
        loop {
            if self.errands.lock().is_due(self.clock.mono_ms()) {
                let tree = Arc::clone(&self);
                // A look that panicked is looked at again; what it was about stays in the ledger.
                let _panicked = tokio::task::spawn_blocking(move || tree.look()).await.is_err();
                continue;
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(TICK_MS)) => {}
            }
        }
    }

    /// Does what is to be done now.
    fn look(&self) {
        let now_ms = self.clock.mono_ms();
        if self.errands.lock().take_all() {
            if let Err(error) = self.recover() {
                tracing::error!(%error, "the sessions that belong to others cannot be read"); // T4
                self.errands.lock().all_later(now_ms.saturating_add(AGAIN_BROKEN_MS));
            }
            return;
        }
        let errands = self.errands.lock().take(LOOK_ERRANDS_MAX, now_ms);
        for errand in &errands {
            self.attempt(*errand, now_ms);
        }
    }

    /// Looks at everything: what is named and has not begun, and every live session that spawned or was spawned (T1, T2).
    fn recover(&self) -> Result<(), ReadError> {
        let now_ms = self.clock.mono_ms();
        let named = self.handle.reader().to_start(ROWS_MAX)?;
        if named.len() == ROWS_MAX {
            self.errands.lock().all_later(now_ms.saturating_add(AGAIN_MS));
        }
        for (by, session) in named {
            self.attempt(Errand::Start { by, session }, now_ms);
        }
        for session in self.handle.reader().live()? {
            let Some(head) = self.handle.reader().head(session)? else { continue };
            let own = head.parent.is_some().then_some(session);
            for child in own.into_iter().chain(head.waits.iter().filter_map(|wait| wait.child())) {
                self.attempt(Errand::Settle { child }, now_ms);
            }
        }
        Ok(())
    }

    fn attempt(&self, errand: Errand, now_ms: u64) {
        match carry::submission(&self.handle, errand) {
            Ok(Some(submission)) => self.submit(errand, submission, now_ms),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, ?errand, "an errand between sessions cannot be done yet"); // T4
                self.errands.lock().later(errand, now_ms.saturating_add(AGAIN_BROKEN_MS));
            }
        }
    }

    fn submit(&self, errand: Errand, submission: Submission, now_ms: u64) {
        let errands = Arc::clone(&self.errands);
        let told = move |result: Result<_, Refused>| match result {
            // What it came to is observed like everything else.
            Ok(_) => {}
            Err(Refused::Rejected(rejection)) => {
                // The session moved on meanwhile: what there is to do now, its new events say.
                tracing::debug!(?errand, code = ?rejection.code, "an errand between sessions is void");
            }
            Err(Refused::Overloaded { .. }) => {
                errands.lock().later(errand, now_ms.saturating_add(AGAIN_MS));
            }
            Err(Refused::Failed(error)) => {
                tracing::error!(%error, ?errand, "an errand between sessions cannot be judged yet"); // T4
                errands.lock().later(errand, now_ms.saturating_add(AGAIN_BROKEN_MS));
            }
            // The process is about to end.
            Err(Refused::Closed) => {}
        };
        self.handle.submit_with(submission, Box::new(told));
    }

    fn note(&self, errands: impl IntoIterator<Item = Errand>) {
        let mut queue = self.errands.lock();
        let before = queue.len();
        queue.extend(errands);
        if queue.len() > before {
            drop(queue);
            self.wake.notify_one();
        }
    }
}

impl Observer for Tree {
    fn committed(&self, committed: &CommittedEvents) {
        let head = &committed.head;
        if head.system {
            return;
        }
        for stored in committed.events.iter() {
            self.observe(head, &stored.event.body);
        }
    }
}

impl Tree {
    fn observe(&self, head: &Head, body: &Body) {
        let by = head.session;
        match body {
            Body::ChildSpawned(child) => self.note([Errand::Start { by, session: child.child }]),
            Body::SessionContinued(end) => self.note([Errand::Start { by, session: end.successor }]),
            // The parent may have been cancelled or terminated before it began.
            Body::SessionStarted(_) | Body::SessionCompleted { .. } | Body::SessionFailed { .. } => {
                self.note(own(head));
            }
            Body::SessionCancelled(_) => self.note(own(head).chain(children(head))),
            Body::CancelRequested { .. } | Body::ChildCancelRequested { .. } => self.note(children(head)),
            _ => {}
        }
    }
}

/// What is to be said to the session's parent, or was said by it.
fn own(head: &Head) -> impl Iterator<Item = Errand> {
    head.parent.as_ref().map(|_| Errand::Settle { child: head.session }).into_iter()
}

fn children(head: &Head) -> impl Iterator<Item = Errand> {
    head.waits.iter().filter_map(|wait| wait.child()).map(|child: SessionId| Errand::Settle { child })
}
