//! Wakes whoever waits for a session to change.
//!
//! 1. Only sessions that somebody waits for cost memory.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::graph::ids::{Seq, SessionId};

/// What has become durable of a session since somebody began to wait for it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wake {
    /// Its last event; 0: none yet.
    pub(super) seq: Seq,
    /// Pieces of what its open zones stream.
    pub(super) streamed: u64,
}

/// Waiters by session.
#[derive(Debug, Default)]
pub(super) struct Wakeups {
    waiting: Mutex<HashMap<SessionId, Arc<watch::Sender<Wake>>>>,
}

impl Wakeups {
    /// Tells a session's waiters its new seq.
    pub(super) fn changed(&self, session: SessionId, seq: Seq) {
        self.wake(session, |wake| wake.seq = seq);
    }

    /// Tells a session's waiters that an open zone has streamed something.
    pub(super) fn streamed(&self, session: SessionId) {
        self.wake(session, |wake| wake.streamed += 1);
    }

    fn wake(&self, session: SessionId, note: impl FnOnce(&mut Wake)) {
        let mut waiting = self.waiting.lock();
        let Some(sender) = waiting.get(&session) else { return };
        if sender.receiver_count() == 0 {
            waiting.remove(&session);
        } else {
            sender.send_modify(note);
        }
    }

    /// Subscribes; what changes from now on is seen.
    pub(super) fn subscribe(&self, session: SessionId) -> watch::Receiver<Wake> {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= FORGET_ABOVE {
            waiting.retain(|_, sender| sender.receiver_count() > 0);
        }
        waiting.entry(session).or_insert_with(|| Arc::new(watch::channel(Wake::default()).0)).subscribe()
    }
}

/// From this many sessions on, those without waiters are swept before another one is added.
const FORGET_ABOVE: usize = 1_024;
