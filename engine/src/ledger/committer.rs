//! The committer thread: makes frames durable, then lets their answers go.

use std::sync::Arc;

use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, Sender};

use super::wakeups::Wakeups;
use super::{Committed, CommittedEvents, Observer, Refused, Responder, Watermark};
use crate::graph::ids::FrameNumber;
use crate::storage::{Frame, Store};

/// What the decider hands over: a frame, if anything changed, and the answers that wait for it.
pub(super) struct Job {
    pub(super) frame: Option<Frame>,
    pub(super) releases: Vec<Release>,
}

/// An answer that leaves once its frame is durable.
pub(super) struct Release {
    pub(super) events: Option<CommittedEvents>,
    pub(super) result: Result<Committed, Refused>,
    pub(super) responder: Responder,
}

/// Called once when a commit has failed; ends the process.
pub(super) type OnPoison = Box<dyn FnOnce(&crate::storage::Fault) + Send>;

pub(super) struct Committer {
    pub(super) store: Arc<dyn Store>,
    pub(super) watermark: Arc<Watermark>,
    pub(super) wakeups: Arc<Wakeups>,
    pub(super) observers: Arc<ArcSwap<Vec<Arc<dyn Observer>>>>,
    pub(super) jobs: Receiver<Job>,
    /// One token: the committer is free.
    pub(super) free: Sender<()>,
    pub(super) on_poison: OnPoison,
}

impl Committer {
    /// Runs until the decider is gone or a commit fails.
    pub(super) fn run(self) {
        loop {
            // Only a decider that is gone has no use for the token.
            if self.free.send(()).is_err() {
                return;
            }
            let Ok(job) = self.jobs.recv() else { return };
            if let Some(frame) = &job.frame {
                if let Err(fault) = self.store.commit(frame) {
                    return self.poisoned(job, &fault);
                }
                self.watermark.publish(frame.number());
            }
            job.releases.into_iter().for_each(|release| self.release(release));
        }
    }

    fn release(&self, release: Release) {
        if let Some(events) = release.events {
            for observer in self.observers.load().iter() {
                observer.committed(&events);
            }
            self.wakeups.changed(events.session, events.head.seq);
        }
        (release.responder)(release.result);
    }

    // L4: the outcome of this frame is unknown, so nobody is told anything about it.
    fn poisoned(self, job: Job, fault: &crate::storage::Fault) {
        let frame = job.frame.as_ref().map_or(FrameNumber(0), Frame::number);
        tracing::error!(%fault, %frame, "commit failed: the process ends and recovery decides at the next start");
        (self.on_poison)(fault);
        for release in job.releases {
            (release.responder)(Err(Refused::Closed));
        }
    }
}
