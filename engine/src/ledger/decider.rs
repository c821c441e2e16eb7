//! The decider thread: receives one command, drains what is there, decides, hands the frame over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, RecvError, Sender, select};

use super::batch::{Batch, Deciding};
use super::committer::Job;
use super::lookups::Lookups;
use super::{Responder, Submission};

/// A command in the queue.
pub(super) struct Queued {
    pub(super) submission: Submission,
    pub(super) lookups: Lookups,
    pub(super) responder: Responder,
    pub(super) bytes: usize,
}

pub(super) struct Decider {
    pub(super) queue: Receiver<Queued>,
    pub(super) queued_bytes: Arc<AtomicUsize>,
    /// The committer's token: it is free to take a job.
    pub(super) free: Receiver<()>,
    pub(super) jobs: Sender<Job>,
    pub(super) deciding: Deciding,
}

impl Decider {
    /// Runs until the queue is closed and drained, or the committer is gone.
    pub(super) fn run(mut self) {
        while let Ok(first) = self.queue.recv() {
            let mut batch = self.deciding.batch();
            self.decide(&mut batch, first);
            if self.gather(&mut batch).is_err() {
                return;
            }
            let queued = (self.queue.len(), self.queued_bytes.load(Ordering::Acquire));
            let job = self.deciding.seal(batch);
            if self.jobs.send(Job { queued, ..job }).is_err() {
                return;
            }
        }
    }

    /// Takes what is there, and what comes while the committer still syncs the frame before (L2).
    fn gather(&mut self, batch: &mut Batch) -> Result<(), RecvError> {
        while batch.has_room()
            && let Ok(next) = self.queue.try_recv()
        {
            self.decide(batch, next);
        }
        loop {
            if !batch.has_room() {
                return self.free.recv();
            }
            select! {
                recv(self.free) -> token => return token,
                recv(self.queue) -> next => match next {
                    Ok(next) => self.decide(batch, next),
                    Err(RecvError) => return self.free.recv(),
                },
            }
        }
    }

    fn decide(&mut self, batch: &mut Batch, queued: Queued) {
        self.queued_bytes.fetch_sub(queued.bytes, Ordering::AcqRel);
        self.deciding.decide(batch, queued);
    }
}
