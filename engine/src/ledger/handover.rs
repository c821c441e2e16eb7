//! Between decider and committer: one frame at a time, without spinning.
//!
//! H1. The decider gives a frame only while the committer is free, so at most one frame is being made durable (L2).

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;

use super::bell::Bell;
use super::committer::{Committing, Job};

/// What the committer is doing.
mod state {
    pub(super) const FREE: u8 = 0;
    pub(super) const BUSY: u8 = 1;
    /// A commit has failed: nothing is made durable any more.
    pub(super) const FAILED: u8 = 2;
}

/// The place where a frame is handed over.
pub(super) struct Handover {
    state: AtomicU8,
    given: Mutex<Given>,
    committer: Bell,
    decider: Arc<Bell>,
}

#[derive(Default)]
struct Given {
    job: Option<Job>,
    closed: bool,
}

impl Handover {
    /// A free committer; `decider` is rung when it is free again.
    pub(super) fn new(decider: Arc<Bell>) -> Arc<Self> {
        let state = AtomicU8::new(state::FREE);
        Arc::new(Self { state, given: Mutex::default(), committer: Bell::default(), decider })
    }

    /// `None`: the committer is busy; `Some(false)`: a commit has failed.
    pub(super) fn is_free(&self) -> Option<bool> {
        match self.state.load(Ordering::Acquire) {
            state::BUSY => None,
            state => Some(state == state::FREE),
        }
    }

    /// Gives a frame to the committer, which is free (H1).
    pub(super) fn give(&self, job: Job) {
        self.state.store(state::BUSY, Ordering::Release);
        self.given.lock().job = Some(job);
        self.committer.ring();
    }

    /// Nothing is given any more once the returned guard is dropped, also by a panic.
    pub(super) fn closing(self: &Arc<Self>) -> Closing {
        Closing(Arc::clone(self))
    }

    /// The committer's thread: runs until nothing is given any more, or a commit fails.
    pub(super) fn serve(&self, committing: &Committing) {
        let _over = Over(self);
        while let Some(job) = self.take() {
            if !committing.commit(job) {
                return;
            }
            self.state.store(state::FREE, Ordering::Release);
            self.decider.ring();
        }
    }

    fn take(&self) -> Option<Job> {
        self.committer.wait(|| {
            let mut given = self.given.lock();
            match given.job.take() {
                Some(job) => Some(Some(job)),
                None => given.closed.then_some(None),
            }
        })
    }
}

/// The committer's thread ends, also by a panic: whoever waits for it must not wait for ever.
struct Over<'a>(&'a Handover);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.state.store(state::FAILED, Ordering::Release);
        self.0.decider.ring();
    }
}

/// The decider's thread: when it ends, the committer's does.
pub(super) struct Closing(Arc<Handover>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.given.lock().closed = true;
        self.0.committer.ring();
    }
}
