//! The decider thread: receives one command, drains what is there, decides, and has the frame made durable.
//!
//! 1. A small frame with nobody waiting behind it is committed here: handing it over would cost two changes of thread
//!    and gain nothing. Any other goes to the committer, so that the next one is decided while it syncs (L2).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, TryRecvError};

use super::batch::{Batch, Deciding};
use super::bell::Bell;
use super::committer::{Committing, Job};
use super::handover::Handover;
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
    /// Rung for commands, and when the committer is free.
    pub(super) bell: Arc<Bell>,
    pub(super) handover: Arc<Handover>,
    pub(super) committing: Arc<Committing>,
    pub(super) deciding: Deciding,
}

impl Decider {
    /// Runs until the queue is closed and drained, or a commit has failed.
    pub(super) fn run(mut self) {
        let _closing = self.handover.closing();
        while let Some(first) = self.next() {
            let mut batch = self.deciding.batch();
            self.decide(&mut batch, first);
            if !self.gather(&mut batch) {
                break;
            }
            let queued = (self.queue.len(), self.queued_bytes.load(Ordering::Acquire));
            let job = self.deciding.seal(batch);
            if !self.make_durable(Job { queued, ..job }) {
                break;
            }
        }
    }

    fn next(&self) -> Option<Queued> {
        self.bell.wait(|| match self.queue.try_recv() {
            Ok(queued) => Some(Some(queued)),
            Err(TryRecvError::Disconnected) => Some(None),
            Err(TryRecvError::Empty) => None,
        })
    }

    /// Takes what is there, and what comes while the committer still syncs the frame before (L2). False: a commit failed.
    fn gather(&mut self, batch: &mut Batch) -> bool {
        loop {
            while batch.has_room()
                && let Ok(next) = self.queue.try_recv()
            {
                self.decide(batch, next);
            }
            if let Some(usable) = self.handover.is_free() {
                return usable;
            }
            let takes_more = batch.has_room();
            self.bell.wait(|| {
                let more = takes_more && !self.queue.is_empty();
                (more || self.handover.is_free().is_some()).then_some(())
            });
        }
    }

    fn make_durable(&self, job: Job) -> bool {
        let own_max = self.deciding.settings.own_frame_commands_max;
        if job.releases.len() > own_max || !self.queue.is_empty() {
            self.handover.give(job);
            return true;
        }
        self.committing.commit(job)
    }

    fn decide(&mut self, batch: &mut Batch, queued: Queued) {
        self.queued_bytes.fetch_sub(queued.bytes, Ordering::AcqRel);
        self.deciding.decide(batch, queued);
    }
}
