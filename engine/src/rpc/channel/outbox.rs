//! What waits to be sent on one connection: filled by the committer and the reader, emptied by the stream.
//!
//! Owns: order. Never: reads the ledger, encodes, or waits.
//!
//! Invariants:
//! - O1 Per session, what was put in first is sent first. While something large of a session is on its way (a replay,
//!   pushed events) everything after it waits in the session's *lane*; other sessions pass by.
//! - O2 A fenced session's lane is dropped, but for the answers in it.
//! - O3 Once finishing, the stream ends when every request received has been answered; once aborted, at once and
//!   without an answer, because the outcomes are unknown.
//! - O4 The credit of a request comes back with its answer.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use cellaflow_proto::v1;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tonic::Status;
use v1::engine_message::Body;

use super::credit::{Overrun, Received};
use super::refuse;
use crate::dispatch::{Bound, Peer, Revocation};
use crate::graph::ids::{Epoch, Seq, SessionId, TimeMs};
use crate::ledger::StoredEvent;

/// A message that needs nothing more than to be sent.
#[derive(Debug)]
pub enum Out {
    /// By far the most frequent one, and small.
    Ack {
        request_id: u64,
        seq: Seq,
        time: TimeMs,
        duplicate: bool,
    },
    Other(Box<Body>),
}

/// What a lane holds.
#[derive(Debug)]
pub enum Item {
    Out {
        out: Out,
        cost: u64,
    },
    /// `Assigned`, then the replay.
    Bound {
        bound: Bound,
        cost: u64,
    },
    Events(Arc<[Arc<StoredEvent>]>),
    /// An ack that carries the event that answers.
    Recorded {
        request_id: u64,
        seq: Seq,
        cost: u64,
    },
}

impl Item {
    fn cost(&self) -> u64 {
        match self {
            Self::Out { cost, .. } | Self::Bound { cost, .. } | Self::Recorded { cost, .. } => *cost,
            Self::Events(_) => 0,
        }
    }
}

#[derive(Default)]
struct Lane {
    items: VecDeque<Item>,
    /// Set by a fence; what the stream has taken of this lane and not sent is void.
    cut: bool,
}

struct Queue {
    ready: VecDeque<(Out, u64)>,
    lanes: HashMap<SessionId, Lane>,
    /// Lanes that the stream has not begun with.
    fresh: Vec<SessionId>,
    /// Requests received and not answered.
    unanswered: usize,
    /// What they cost (K1).
    received: Received,
    /// Window the worker's Hello named, until the stream has seen it.
    opened: Option<u64>,
    /// Bytes the worker granted since the stream looked.
    granted: u64,
    /// Bytes of messages that need no answer, to be granted again.
    released: u64,
    end: Option<End>,
    waker: Option<Waker>,
}

/// How the stream ends (O3).
#[derive(Debug)]
enum End {
    /// After all answers, and after the lanes if `lanes`.
    Finishing {
        status: Option<Status>,
        lanes: bool,
    },
    Aborted(Status),
}

/// What the stream takes out in one go.
#[derive(Debug, Default)]
pub struct Taken {
    pub ready: Vec<(Out, u64)>,
    pub fresh: Vec<SessionId>,
    pub opened: Option<u64>,
    pub granted: u64,
    pub released: u64,
}

/// Whether the stream goes on.
#[derive(Debug)]
pub enum Next {
    Open,
    Ended(Option<Status>),
}

/// The outbox of one connection.
pub struct Outbox {
    queue: Mutex<Queue>,
    /// Tells the reader that there is nothing more to read.
    ending: Notify,
}

impl Outbox {
    /// Creates an empty one; the worker may have `window` bytes of requests unanswered.
    #[must_use]
    pub fn new(window: u64) -> Self {
        let queue = Queue {
            ready: VecDeque::new(),
            lanes: HashMap::new(),
            fresh: Vec::new(),
            unanswered: 0,
            received: Received::new(window),
            opened: None,
            granted: 0,
            released: 0,
            end: None,
            waker: None,
        };
        Self { queue: Mutex::new(queue), ending: Notify::new() }
    }

    /// Queues a message that belongs to no session and answers nothing.
    pub fn send(&self, body: Body) {
        self.queue.lock().push_ready(Out::Other(Box::new(body)), 0);
    }

    /// Notes that a request of `cost` bytes was received; exactly one answer follows.
    ///
    /// # Errors
    /// [`Overrun`] of the credit: the stream has to end.
    pub fn asked(&self, cost: u64) -> Result<(), Overrun> {
        let mut queue = self.queue.lock();
        queue.unanswered += 1;
        queue.received.take(cost)
    }

    /// Queues the answer to a request, in the order of its session (O1).
    pub fn answer(&self, session: Option<SessionId>, out: Out, cost: u64) {
        let mut queue = self.queue.lock();
        queue.answered();
        match session {
            Some(session) => queue.push_ordered(session, out, cost),
            None => queue.push_ready(out, cost),
        }
    }

    /// Queues an answer that needs an event of the ledger.
    pub fn answer_recorded(&self, session: SessionId, request_id: u64, seq: Seq, cost: u64) {
        let mut queue = self.queue.lock();
        queue.answered();
        queue.push_lane(session, Item::Recorded { request_id, seq, cost });
    }

    /// Queues the answer to a start or attach: `Assigned` and the replay.
    pub fn answer_bound(&self, bound: Bound, cost: u64) {
        let mut queue = self.queue.lock();
        queue.answered();
        queue.push_lane(bound.head.session, Item::Bound { bound, cost });
    }

    /// Welcomes the worker: from now on the stream may send `window` bytes of content.
    pub fn open(&self, welcome: v1::Welcome, window: u64) {
        let mut queue = self.queue.lock();
        queue.opened = Some(window);
        queue.push_ready(Out::Other(Box::new(Body::Welcome(welcome))), 0);
    }

    /// Notes credit that the worker granted.
    pub fn granted(&self, bytes: u64) {
        let mut queue = self.queue.lock();
        queue.granted = queue.granted.saturating_add(bytes);
        queue.wake();
    }

    /// Notes bytes of the worker's that were taken in and need no answer.
    pub fn released(&self, bytes: u64) {
        let mut queue = self.queue.lock();
        queue.released = queue.released.saturating_add(bytes);
        queue.wake();
    }

    /// Ends the stream once everything is answered and sent (O3).
    pub fn finish(&self, status: Option<Status>) {
        let mut queue = self.queue.lock();
        queue.end.get_or_insert(End::Finishing { status, lanes: true });
        queue.wake();
    }

    /// Ends the stream at once (O3).
    pub fn abort(&self, status: Status) {
        let mut queue = self.queue.lock();
        if !matches!(queue.end, Some(End::Aborted(_))) {
            queue.end = Some(End::Aborted(status));
        }
        queue.wake();
        self.ending.notify_one();
    }

    /// True once the stream ends or is about to: nothing more is to be read.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.queue.lock().end.is_some()
    }

    /// Resolves once the stream is to end by the engine's doing; for the one reader.
    pub async fn ending(&self) {
        self.ending.notified().await;
    }

    /// Takes out what can be sent, at most `ready_max` messages.
    pub fn take(&self, ready_max: usize) -> Taken {
        let mut queue = self.queue.lock();
        let count = queue.ready.len().min(ready_max);
        let ready: Vec<_> = queue.ready.drain(..count).collect();
        queue.received.give_back(ready.iter().map(|(_, cost)| cost).sum());
        Taken {
            ready,
            fresh: std::mem::take(&mut queue.fresh),
            opened: queue.opened.take(),
            granted: std::mem::take(&mut queue.granted),
            released: std::mem::take(&mut queue.released),
        }
    }

    /// Takes the next item of a lane; `None`: the lane is empty and gone.
    pub fn next_of(&self, session: SessionId) -> Option<Item> {
        let mut queue = self.queue.lock();
        let lane = queue.lanes.get_mut(&session)?;
        lane.cut = false;
        let Some(item) = lane.items.pop_front() else {
            queue.lanes.remove(&session);
            return None;
        };
        queue.received.give_back(item.cost());
        Some(item)
    }

    /// True if the lane was fenced since its last item was taken (O2).
    #[must_use]
    pub fn is_cut(&self, session: SessionId) -> bool {
        self.queue.lock().lanes.get(&session).is_some_and(|lane| lane.cut)
    }

    /// Registers the stream for the next change, unless there is something to take or the end has come. `busy` says
    /// that the stream itself has lanes to finish.
    pub fn wait(&self, waker: &Waker, busy: bool) -> Option<Next> {
        let mut queue = self.queue.lock();
        if let Some(End::Aborted(status)) = &queue.end {
            return Some(Next::Ended(Some(status.clone())));
        }
        if !queue.ready.is_empty() || !queue.fresh.is_empty() || queue.granted > 0 || queue.released > 0 {
            return Some(Next::Open);
        }
        if let Some(End::Finishing { status, lanes }) = &queue.end
            && queue.unanswered == 0
            && !(busy && *lanes)
        {
            return Some(Next::Ended(status.clone()));
        }
        queue.waker = Some(waker.clone());
        None
    }
}

impl Queue {
    fn answered(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
    }

    fn push_ready(&mut self, out: Out, cost: u64) {
        self.ready.push_back((out, cost));
        self.wake();
    }

    fn push_ordered(&mut self, session: SessionId, out: Out, cost: u64) {
        match self.lanes.get_mut(&session) {
            Some(lane) => lane.items.push_back(Item::Out { out, cost }),
            None => self.push_ready(out, cost),
        }
    }

    fn push_lane(&mut self, session: SessionId, item: Item) {
        if let Some(lane) = self.lanes.get_mut(&session) {
            lane.items.push_back(item);
        } else {
            self.lanes.entry(session).or_default().items.push_back(item);
            self.fresh.push(session);
        }
        self.wake();
    }

    fn cut(&mut self, session: SessionId) {
        let Some(lane) = self.lanes.get_mut(&session) else { return };
        lane.cut = true;
        let items = std::mem::take(&mut lane.items);
        lane.items.extend(items.into_iter().filter_map(|item| match item {
            Item::Out { .. } | Item::Recorded { .. } => Some(item),
            Item::Bound { bound, cost } if bound.request_id != 0 => {
                let out = refuse::nack(bound.request_id, Some(session), &refuse::taken_over());
                Some(Item::Out { out, cost })
            }
            Item::Bound { .. } | Item::Events(_) => None,
        }));
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Peer for Outbox {
    fn bound(&self, bound: Bound) {
        self.queue.lock().push_lane(bound.head.session, Item::Bound { bound, cost: 0 });
    }

    fn events(&self, session: SessionId, events: &Arc<[Arc<StoredEvent>]>) {
        self.queue.lock().push_lane(session, Item::Events(Arc::clone(events)));
    }

    fn revoked(&self, session: SessionId, epoch: Epoch, why: Revocation) {
        let reason = match why {
            Revocation::Fenced => v1::RevokeReason::Fenced,
            Revocation::Paused => v1::RevokeReason::Paused,
            Revocation::Ended => v1::RevokeReason::Ended,
        };
        let revoked = v1::Revoked { session_id: session.to_string(), epoch: epoch.0, reason: reason.into() };
        let out = Out::Other(Box::new(Body::Revoked(revoked)));
        let mut queue = self.queue.lock();
        if why == Revocation::Fenced {
            queue.cut(session); // O2
            queue.push_ready(out, 0);
        } else {
            queue.push_ordered(session, out, 0);
        }
    }

    fn draining(&self, grace_ms: u64) {
        self.send(Body::Draining(v1::Draining { grace_ms }));
        let mut queue = self.queue.lock();
        queue.end.get_or_insert(End::Finishing { status: None, lanes: false });
        queue.wake();
        self.ending.notify_one();
    }

    fn replaced(&self) {
        self.abort(Status::aborted(
            "another channel of this worker instance was opened: go on there, this one is not needed",
        ));
    }
}

#[cfg(test)]
mod tests;
