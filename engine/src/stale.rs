//! Which sessions a compactor is to fold now: an observer of the ledger, in memory alone.
//!
//! Owned: what came of each session since it was last handed out, and who waits for what. Never: what a context says.
//!
//! ST1. A session is handed out once for what came; to whoever asks first.
//! ST2. Only sessions that have a conversation are kept, and at most so many; what is left out is said (`missed`).
//! ST3. Nothing here is durable: a new engine says `missed`, and the compactor lists what is behind.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::clock::Clock;
use crate::config::Limits;
use crate::graph::event::Body;
use crate::graph::ids::{Namespace, Seq, SessionId};
use crate::graph::session::Status;
use crate::ledger::{CommittedEvents, Observer, StoredEvent};

/// A namespace is attended while a compactor waits for its sessions, and for so long after, in ms.
const ATTENDED_MS: u64 = 30_000;
/// How often quiet sessions are looked at while somebody waits.
const QUIET_LOOK: Duration = Duration::from_secs(5);

/// Why a session is handed out, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Its agent waits.
    Asked,
    /// It waits or is paused.
    Suspended,
    /// Nothing has happened for a while.
    Gap,
    /// Much has come.
    HighMark,
}

/// A session to fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Session.
    pub session: SessionId,
    /// Its last event.
    pub seq: Seq,
    /// Why.
    pub why: Why,
    /// Tokens its agent has; 0: not said.
    pub budget_tokens: u64,
}

/// Sizes and times.
#[derive(Clone, Copy, Debug)]
struct Marks {
    sessions_max: usize,
    due_bytes: u64,
    high_bytes: u64,
    gap_ms: u64,
}

struct Entry {
    namespace: Namespace,
    seq: Seq,
    /// Payload bytes since it was handed out.
    bytes: u64,
    /// When the last of them came, monotonic.
    last_ms: u64,
    suspended: bool,
    /// Tokens that a waiting agent has.
    asked: Option<u64>,
}

#[derive(Default)]
struct State {
    sessions: HashMap<SessionId, Entry>,
    /// Namespaces that were told that sessions may have been missed, and have missed none since.
    told: HashSet<Namespace>,
    /// Compactors that wait, and when the last one did.
    waiting: HashMap<Namespace, (usize, u64)>,
}

/// See the module.
pub struct Stale {
    state: Mutex<State>,
    due: Notify,
    /// Counts what was stored.
    stored: watch::Sender<u64>,
    marks: Marks,
    clock: Arc<dyn Clock>,
}

impl Stale {
    /// Begins with nothing known.
    #[must_use]
    pub fn new(limits: &Limits, clock: Arc<dyn Clock>) -> Self {
        Self {
            state: Mutex::default(),
            due: Notify::new(),
            stored: watch::channel(0).0,
            marks: Marks {
                sessions_max: usize::try_from(limits.context_due_sessions_max).unwrap_or(usize::MAX),
                due_bytes: limits.context_due_bytes,
                high_bytes: limits.context_high_mark_bytes,
                gap_ms: limits.context_gap_ms,
            },
            clock,
        }
    }

    /// Sessions of a namespace that are due, at most `max`; waits up to `patience` for the first one. The second: others
    /// may have been missed (ST2).
    pub async fn take(&self, namespace: &Namespace, max: usize, patience: Duration) -> (Vec<Due>, bool) {
        let mut over = std::pin::pin!(tokio::time::sleep(patience));
        let _waits = self.attend(namespace);
        loop {
            let woken = self.due.notified();
            let (found, missed) = self.take_now(namespace, max);
            if !found.is_empty() || missed || patience.is_zero() {
                return (found, missed);
            }
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep(QUIET_LOOK) => {}
                () = &mut over => return self.take_now(namespace, max),
            }
        }
    }

    fn take_now(&self, namespace: &Namespace, max: usize) -> (Vec<Due>, bool) {
        let now_ms = self.clock.mono_ms();
        let mut state = self.state.lock();
        let missed = state.told.insert(Arc::clone(namespace));
        let mut due: Vec<Due> = state
            .sessions
            .iter()
            .filter(|(_, entry)| entry.namespace == *namespace)
            .filter_map(|(session, entry)| self.judge(*session, entry, now_ms))
            .collect();
        due.sort_by_key(|due| (due.why, due.session));
        due.truncate(max);
        for taken in &due {
            drop(state.sessions.remove(&taken.session)); // ST1
        }
        (due, missed)
    }

    fn judge(&self, session: SessionId, entry: &Entry, now_ms: u64) -> Option<Due> {
        let some = entry.bytes >= self.marks.due_bytes;
        let why = match () {
            () if entry.asked.is_some() => Why::Asked,
            () if entry.suspended && some => Why::Suspended,
            () if some && now_ms.saturating_sub(entry.last_ms) >= self.marks.gap_ms => Why::Gap,
            () if entry.bytes >= self.marks.high_bytes => Why::HighMark,
            () => return None,
        };
        Some(Due { session, seq: entry.seq, why, budget_tokens: entry.asked.unwrap_or(0) })
    }

    /// Notes that an agent waits for a context that fits.
    pub fn ask(&self, session: SessionId, namespace: &Namespace, seq: Seq, budget_tokens: u64) {
        let last_ms = self.clock.mono_ms();
        let mut state = self.state.lock();
        let entry = state.sessions.entry(session).or_insert_with(|| Entry {
            namespace: Arc::clone(namespace),
            seq,
            bytes: 0,
            last_ms,
            suspended: false,
            asked: None,
        });
        entry.asked = Some(budget_tokens);
        drop(state);
        self.due.notify_waiters();
    }

    /// Notes that something was stored of some session.
    pub fn stored(&self) {
        self.stored.send_modify(|count| *count += 1);
    }

    /// Resolves when something is stored from now on.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.stored.subscribe()
    }

    /// True if no compactor has asked for a namespace's sessions of late.
    #[must_use]
    pub fn unattended(&self, namespace: &Namespace) -> bool {
        let now_ms = self.clock.mono_ms();
        let state = self.state.lock();
        state
            .waiting
            .get(namespace)
            .is_none_or(|(waiting, last_ms)| *waiting == 0 && now_ms.saturating_sub(*last_ms) > ATTENDED_MS)
    }

    fn attend<'a>(&'a self, namespace: &'a Namespace) -> Attending<'a> {
        self.state.lock().waiting.entry(Arc::clone(namespace)).or_default().0 += 1;
        Attending { stale: self, namespace }
    }
}

/// Counts a compactor that waits, until it does not any more.
struct Attending<'a> {
    stale: &'a Stale,
    namespace: &'a Namespace,
}

impl Drop for Attending<'_> {
    fn drop(&mut self) {
        let now_ms = self.stale.clock.mono_ms();
        if let Some(waiting) = self.stale.state.lock().waiting.get_mut(self.namespace) {
            *waiting = (waiting.0.saturating_sub(1), now_ms);
        }
    }
}

impl Observer for Stale {
    fn committed(&self, committed: &CommittedEvents) {
        let head = &committed.head;
        if head.system {
            return;
        }
        let talks = committed.events.iter().any(|stored| stored.event.conversation_delta.is_some());
        let mut state = self.state.lock();
        if head.status.is_terminal() {
            drop(state.sessions.remove(&committed.session));
            return;
        }
        let known = state.sessions.contains_key(&committed.session);
        if !known && !talks {
            return;
        }
        if !known && state.sessions.len() >= self.marks.sessions_max {
            state.told.remove(&head.namespace); // ST2
            return;
        }
        let now_ms = self.clock.mono_ms();
        let entry = state.sessions.entry(committed.session).or_insert_with(|| Entry {
            namespace: Arc::clone(&head.namespace),
            seq: head.seq,
            bytes: 0,
            last_ms: now_ms,
            suspended: false,
            asked: None,
        });
        entry.seq = head.seq;
        entry.bytes += committed.events.iter().map(|stored| weight(stored)).sum::<u64>();
        entry.last_ms = now_ms;
        entry.suspended = matches!(head.status, Status::Waiting | Status::Paused { .. });
        let due = self.judge(committed.session, entry, now_ms).is_some();
        drop(state);
        if due {
            self.due.notify_waiters();
        }
    }
}

/// Bytes that an event is likely to bring into a conversation: what was said, and what tools and models answered.
fn weight(stored: &StoredEvent) -> u64 {
    let said = stored.event.conversation_delta.as_ref().map_or(0, |delta| delta.size);
    match &stored.event.body {
        Body::StepCompleted(step) => said + step.output.size,
        _ => said,
    }
}

#[cfg(test)]
#[path = "stale_tests.rs"]
mod tests;
