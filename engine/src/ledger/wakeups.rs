//! Wakes whoever waits for a session to change.
//!
//! 1. Only sessions that somebody waits for cost memory.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::graph::ids::{Seq, SessionId};

/// Waiters by session.
#[derive(Debug, Default)]
pub(super) struct Wakeups {
    waiting: Mutex<HashMap<SessionId, Arc<watch::Sender<Seq>>>>,
}

impl Wakeups {
    /// Tells a session's waiters its new seq.
    pub(super) fn changed(&self, session: SessionId, seq: Seq) {
        let mut waiting = self.waiting.lock();
        if let Some(sender) = waiting.get(&session)
            && sender.send(seq).is_err()
        {
            waiting.remove(&session);
        }
    }

    /// Subscribes; what changes from now on is seen.
    pub(super) fn subscribe(&self, session: SessionId) -> watch::Receiver<Seq> {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= FORGET_ABOVE {
            waiting.retain(|_, sender| sender.receiver_count() > 0);
        }
        waiting.entry(session).or_insert_with(|| Arc::new(watch::channel(Seq(0)).0)).subscribe()
    }
}

/// From this many sessions on, those without waiters are swept before another one is added.
const FORGET_ABOVE: usize = 1_024;
