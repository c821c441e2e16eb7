//! Makes frames durable, then lets their answers go: on the committer thread, or on the decider's (`decider.rs`, 1),
//! never on both at once.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::wakeups::Wakeups;
use super::{Committed, CommittedEvents, FrameFigures, Observer, Refused, Responder, Watermark};
use crate::clock::Clock;
use crate::graph::ids::SessionId;
use crate::storage::{Fault, Frame, Store};

/// What the decider hands over: a frame, if anything changed, and the answers that wait for it.
pub(super) struct Job {
    /// A frame that could not be sealed is as bad as one that could not be committed: later decisions build on it.
    pub(super) frame: Result<Option<Frame>, Fault>,
    pub(super) releases: Vec<Release>,
    /// Commands and bytes left in the queue when it was handed over.
    pub(super) queued: (usize, usize),
}

/// An answer that leaves once its frame is durable.
pub(super) struct Release {
    pub(super) events: Option<CommittedEvents>,
    /// The session whose open zone streamed something that is in the frame.
    pub(super) streamed: Option<SessionId>,
    pub(super) result: Result<Committed, Refused>,
    pub(super) responder: Responder,
}

/// Called once when a commit has failed; ends the process.
pub(super) type OnPoison = Box<dyn FnOnce(&Fault) + Send>;

/// What making a frame durable takes.
pub(super) struct Committing {
    pub(super) store: Arc<dyn Store>,
    pub(super) watermark: Arc<Watermark>,
    pub(super) wakeups: Arc<Wakeups>,
    pub(super) observers: Arc<ArcSwap<Vec<Arc<dyn Observer>>>>,
    pub(super) on_poison: Mutex<Option<OnPoison>>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Committing {
    /// Makes a frame durable and answers its commands. False: it failed, and so will everything after it.
    pub(super) fn commit(&self, job: Job) -> bool {
        let Job { frame, releases, queued } = job;
        let frame = match frame {
            Ok(frame) => frame,
            Err(fault) => return self.poisoned(releases, &fault),
        };
        if let Some(frame) = &frame {
            let begun_us = self.clock.mono_us();
            if let Err(fault) = self.store.commit(frame) {
                return self.poisoned(releases, &fault);
            }
            self.watermark.publish(frame.number());
            self.measured((releases.len(), queued), frame, self.clock.mono_us().saturating_sub(begun_us));
        }
        releases.into_iter().for_each(|release| self.release(release));
        true
    }

    fn measured(&self, counts: (usize, (usize, usize)), frame: &Frame, commit_us: u64) {
        let (commands, (queued_commands, queued_bytes)) = counts;
        let figures =
            FrameFigures { commands, bytes: frame.bytes(), commit_us, queued_commands, queued_bytes };
        self.observers.load().iter().for_each(|observer| observer.frame(&figures));
    }

    fn release(&self, release: Release) {
        if let Err(Refused::Rejected(rejection)) = &release.result {
            self.observers.load().iter().for_each(|observer| observer.rejected(rejection.code));
        }
        if let Some(events) = release.events {
            for observer in self.observers.load().iter() {
                observer.committed(&events);
            }
            self.wakeups.changed(events.session, events.head.seq);
        }
        if let Some(session) = release.streamed {
            self.wakeups.streamed(session);
        }
        (release.responder)(release.result);
    }

    // L4: the outcome of this frame is unknown, so nobody is told anything about it.
    fn poisoned(&self, releases: Vec<Release>, fault: &Fault) -> bool {
        let durable = self.watermark.get();
        tracing::error!(%fault, %durable, "commit failed: the process ends and recovery decides at the next start");
        if let Some(on_poison) = self.on_poison.lock().take() {
            on_poison(fault);
        }
        for release in releases {
            (release.responder)(Err(Refused::Closed));
        }
        false
    }
}
