//! What dispatch knows of every session that runs or could, and what a change of it means for workers.
//!
//! Owns: which connection runs which session, and when a session enters or leaves the queue. Pure: no clock, no lock,
//! no connection; changes come in, notices come out.
//!
//! Invariants:
//! - S1 A session is queued exactly while it may run and nobody alive holds its lease, except while it is being handed
//!   to a worker or waits out a delay.
//! - S2 A connection is bound to a session only while its instance holds the lease in that epoch; a grant to anybody
//!   else unbinds it and says so.
//! - S3 Events reach the bound connection in ledger order, those of its own instance excepted.
//! - S4 A lease whose holder is connected and has not attached to the session within a TTL is *abandoned*: the worker
//!   does not know that it holds it, because the connection or the engine was lost before it was told. It is given anew.
//! - S5 Nothing is kept of a session that nobody runs and nobody can (it waits, is paused or has ended).

use std::collections::{HashMap, HashSet};

use super::leases::{ConnId, Sweep};
use super::queue::{Kind, Queue, Waiting};
use crate::graph::event::{Body, ReleaseReason};
use crate::graph::ids::{Epoch, Incarnation, InstanceId, SessionId};
use crate::graph::session::Head;

/// Milliseconds before a session that a worker could not take, or that the ledger had no room for, is offered again.
pub const RETRY_MS: u64 = 1_000;

/// Why a worker must stop running a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Revocation {
    /// Another worker holds the lease.
    Fenced,
    /// It was paused.
    Paused,
    /// It ended by somebody else's doing.
    Ended,
}

/// What a bound connection must be told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// The change's events.
    Events(ConnId),
    /// To stop.
    Revoked { conn: ConnId, epoch: Epoch, why: Revocation },
}

/// One durable change of a session.
pub struct Change<'a> {
    /// After it.
    pub head: &'a Head,
    pub bodies: Vec<&'a Body>,
    /// Instance whose connection asked for it.
    pub origin: Option<InstanceId>,
    /// Monotonic time.
    pub now_ms: u64,
}

struct Entry {
    kind: Kind,
    holder: Option<InstanceId>,
    epoch: Epoch,
    conn: Option<ConnId>,
    may_run: bool,
    /// Taken from the queue and offered to a worker.
    offered: bool,
    /// Its holder does not know of the lease (S4).
    abandoned: bool,
}

/// The sessions.
#[derive(Default)]
pub struct Sessions {
    pub queue: Queue,
    entries: HashMap<SessionId, Entry>,
    held: HashMap<InstanceId, HashSet<SessionId>>,
    delayed: Vec<(u64, SessionId)>,
    /// The ledger's present one; sessions of another one are held (`graph::hold`).
    incarnation: Incarnation,
}

impl Sessions {
    /// Knows no session yet.
    pub fn under(incarnation: Incarnation) -> Self {
        Self { incarnation, ..Self::default() }
    }

    fn may_run(&self, head: &Head) -> bool {
        head.status.is_runnable() && !head.is_held(self.incarnation)
    }

    /// Takes in a durable change and says what the bound connection must be told.
    pub fn changed(&mut self, change: &Change<'_>, alive: impl Fn(InstanceId) -> bool) -> Vec<Notice> {
        let head = change.head;
        let notices = self.notices(change);
        let may_run = self.may_run(head);
        if is_forgotten(head, may_run) {
            self.forget(head.session); // S5
            return notices;
        }
        let entry = self.entries.entry(head.session).or_insert_with(|| Entry::new(head, may_run));
        let before = std::mem::replace(&mut entry.holder, head.holder);
        if before != head.holder || entry.epoch != head.epoch {
            entry.conn = None; // S2
            entry.abandoned = false;
        }
        entry.epoch = head.epoch;
        entry.may_run = may_run;
        self.rehold(head.session, before, head.holder);
        let delay = change
            .bodies
            .iter()
            .any(|body| matches!(body, Body::LeaseReleased { reason: ReleaseReason::Unable, .. }));
        if delay {
            self.delay(head.session, change.now_ms);
        } else {
            self.requeue(head.session, &alive);
        }
        notices
    }

    /// Takes in a session found at start.
    pub fn recovered(&mut self, head: &Head, alive: impl Fn(InstanceId) -> bool) {
        let may_run = self.may_run(head);
        if is_forgotten(head, may_run) {
            return;
        }
        self.entries.insert(head.session, Entry::new(head, may_run));
        self.rehold(head.session, None, head.holder);
        self.requeue(head.session, &alive);
    }

    fn notices(&self, change: &Change<'_>) -> Vec<Notice> {
        let head = change.head;
        let Some(entry) = self.entries.get(&head.session) else { return Vec::new() };
        let Some(conn) = entry.conn else { return Vec::new() };
        let revoked = |why| Notice::Revoked { conn, epoch: entry.epoch, why };
        let fenced = head.holder.is_some() && head.holder != entry.holder;
        if fenced {
            return vec![revoked(Revocation::Fenced)];
        }
        let own = entry.holder.is_some() && change.origin == entry.holder;
        let mut notices = Vec::new();
        if !own {
            notices.push(Notice::Events(conn)); // S3
        }
        if head.status.is_terminal() && !own {
            notices.push(revoked(Revocation::Ended));
        } else if change.bodies.iter().any(|body| matches!(body, Body::SessionPaused { .. })) {
            notices.push(revoked(Revocation::Paused));
        }
        notices
    }

    /// Binds a connection of `instance` to a session whose lease it holds; false if that is no longer so (S2).
    pub fn bind(&mut self, session: SessionId, instance: InstanceId, conn: ConnId, epoch: Epoch) -> bool {
        self.queue.remove(session);
        let Some(entry) = self.entries.get_mut(&session) else { return false };
        entry.offered = false;
        let holds = entry.holder == Some(instance) && entry.epoch == epoch;
        if holds {
            entry.conn = Some(conn);
            entry.abandoned = false;
        }
        holds
    }

    /// Takes the next pair of session and worker from the queue.
    pub fn offer(&mut self) -> Option<(SessionId, ConnId)> {
        let (session, conn) = self.queue.next()?;
        if let Some(entry) = self.entries.get_mut(&session) {
            entry.offered = true;
        }
        Some((session, conn))
    }

    /// Notes that an offered session was not taken; it goes back to the queue, at once or after a delay.
    pub fn refused(
        &mut self,
        session: SessionId,
        delay_from_ms: Option<u64>,
        alive: impl Fn(InstanceId) -> bool,
    ) {
        if let Some(entry) = self.entries.get_mut(&session) {
            entry.offered = false;
        }
        match delay_from_ms {
            Some(now_ms) => self.delay(session, now_ms),
            None => self.requeue(session, &alive),
        }
    }

    /// Unbinds a connection from all sessions of its instance; the leases stay.
    pub fn unbind(&mut self, instance: InstanceId, conn: ConnId) {
        for session in self.held.get(&instance).into_iter().flatten() {
            if let Some(entry) = self.entries.get_mut(session)
                && entry.conn == Some(conn)
            {
                entry.conn = None;
            }
        }
    }

    /// Gives anew what an instance holds and no connection is bound to (S4).
    pub fn abandon_unbound(&mut self, instance: InstanceId, alive: &impl Fn(InstanceId) -> bool) {
        let held: Vec<SessionId> = self.held.get(&instance).into_iter().flatten().copied().collect();
        for session in held {
            if let Some(entry) = self.entries.get_mut(&session)
                && entry.conn.is_none()
            {
                entry.abandoned = true;
                self.requeue(session, alive);
            }
        }
    }

    /// True if the session's holder, which is `instance`, does not know of its lease (S4).
    #[must_use]
    pub fn is_abandoned(&self, session: SessionId, instance: InstanceId) -> bool {
        self.entries.get(&session).is_some_and(|entry| entry.abandoned && entry.holder == Some(instance))
    }

    /// How many leases an instance holds.
    #[must_use]
    pub fn held_by(&self, instance: InstanceId) -> usize {
        self.held.get(&instance).map_or(0, HashSet::len)
    }

    /// Takes in deaths and returns to life, and ends delays that are over.
    pub fn swept(&mut self, sweep: &Sweep, now_ms: u64, alive: impl Fn(InstanceId) -> bool) {
        let over: Vec<SessionId> =
            self.delayed.extract_if(.., |(at_ms, _)| *at_ms <= now_ms).map(|(_, s)| s).collect();
        let held: Vec<SessionId> = sweep
            .died
            .iter()
            .chain(&sweep.revived)
            .filter_map(|instance| self.held.get(instance))
            .flatten()
            .copied()
            .collect();
        for session in over.into_iter().chain(held) {
            self.requeue(session, &alive);
        }
    }

    /// Why a session that may run does not; `None`: it runs, or is not known to be able to.
    #[must_use]
    pub fn waiting(&self, session: SessionId) -> Option<Why> {
        let entry = self.entries.get(&session)?;
        match entry.holder {
            Some(_) if entry.conn.is_some() || !entry.may_run => None,
            Some(holder) => Some(Why::Silent { holder, next: self.queue.waiting(&entry.kind) }),
            None if entry.may_run => Some(Why::Queued(self.queue.waiting(&entry.kind))),
            None => None,
        }
    }

    /// Puts the session where S1 says.
    fn requeue(&mut self, session: SessionId, alive: &impl Fn(InstanceId) -> bool) {
        let Some(entry) = self.entries.get(&session) else { return };
        if entry.offered || self.delayed.iter().any(|(_, delayed)| *delayed == session) {
            return;
        }
        let held = entry.holder.is_some_and(alive) && !entry.abandoned;
        if entry.may_run && !held {
            self.queue.enqueue(session, entry.kind.clone());
        } else {
            self.queue.remove(session);
        }
    }

    fn delay(&mut self, session: SessionId, now_ms: u64) {
        self.queue.remove(session);
        self.delayed.push((now_ms.saturating_add(RETRY_MS), session));
    }

    fn rehold(&mut self, session: SessionId, before: Option<InstanceId>, after: Option<InstanceId>) {
        if before == after && before.is_none() {
            return;
        }
        if let Some(instance) = before.filter(|_| before != after)
            && let Some(held) = self.held.get_mut(&instance)
        {
            held.remove(&session);
            if held.is_empty() {
                self.held.remove(&instance);
            }
        }
        if let Some(instance) = after {
            self.held.entry(instance).or_default().insert(session);
        }
    }

    fn forget(&mut self, session: SessionId) {
        if let Some(entry) = self.entries.remove(&session) {
            self.rehold(session, entry.holder, None);
        }
        self.queue.remove(session);
        self.delayed.retain(|(_, delayed)| *delayed != session);
    }
}

/// True for sessions that nobody runs and nobody can: the event that changes this brings the head along.
fn is_forgotten(head: &Head, may_run: bool) -> bool {
    head.status.is_terminal() || (head.holder.is_none() && !may_run)
}

impl Entry {
    fn new(head: &Head, may_run: bool) -> Self {
        Self {
            kind: Kind {
                namespace: head.namespace.clone(),
                workflow: head.workflow.clone(),
                version: head.version.clone(),
            },
            holder: head.holder,
            epoch: head.epoch,
            conn: None,
            may_run,
            offered: false,
            abandoned: false,
        }
    }
}

/// Why a session that may run does not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Why {
    /// Nobody holds its lease.
    Queued(Waiting),
    /// Its holder has no connection; what comes after the holder's TTL.
    Silent { holder: InstanceId, next: Waiting },
}

#[cfg(test)]
pub(super) use tests::test_head;

#[cfg(test)]
mod tests;
