//! Sessions that want a worker, and workers that want a session.
//!
//! Owns: the order in which sessions are handed out and the free slots of workers. Never: leases, submits, or decides
//! whether a session may run; it is told.
//!
//! Invariants:
//! - Q1 A session goes only to a worker that serves its exact namespace, workflow and version.
//! - Q2 Of all sessions that some worker could take now, the one that has waited longest goes first.
//! - Q3 A worker never gets more than it said it takes; what is on its way to it counts.
//! - Q4 A worker that is silent gets nothing until it is heard of again: its own sessions would come back to it.
//! - Q5 A session is queued at most once, and keeps its place when it is queued again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::leases::ConnId;
use crate::graph::ids::{Namespace, SessionId};

/// What a session needs and a worker serves.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Kind {
    pub namespace: Namespace,
    pub workflow: Arc<str>,
    pub version: Arc<str>,
}

/// Why a queued session has no worker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Waiting {
    /// Nobody serves its version; the versions of its workflow that somebody does serve.
    NoWorker { served: Vec<Arc<str>> },
    /// Those who serve it have no free slot.
    Busy { workers: usize },
    /// It is being handed over.
    Soon,
}

#[derive(Default)]
struct Line {
    /// By ticket: first come, first served (Q2).
    waiting: BTreeMap<u64, SessionId>,
    servers: Vec<ConnId>,
}

struct Worker {
    kinds: Vec<Kind>,
    free: u32,
    /// Handed over and not settled yet (Q3).
    coming: u32,
    /// Not heard of within the TTL (Q4).
    silent: bool,
}

impl Worker {
    /// How many sessions it may be given now.
    fn takes(&self) -> u32 {
        if self.silent { 0 } else { self.free }
    }
}

/// The queue.
#[derive(Default)]
pub struct Queue {
    lines: HashMap<Kind, Line>,
    places: HashMap<SessionId, (Kind, u64)>,
    workers: HashMap<ConnId, Worker>,
    next_ticket: u64,
}

impl Queue {
    /// Queues a session at the end of the line; one that is queued stays where it is (Q5).
    pub fn enqueue(&mut self, session: SessionId, kind: Kind) {
        if self.places.contains_key(&session) {
            return;
        }
        self.next_ticket += 1;
        self.lines.entry(kind.clone()).or_default().waiting.insert(self.next_ticket, session);
        self.places.insert(session, (kind, self.next_ticket));
    }

    /// Takes a session out, if it is queued.
    pub fn remove(&mut self, session: SessionId) {
        if let Some((kind, ticket)) = self.places.remove(&session)
            && let Some(line) = self.lines.get_mut(&kind)
        {
            line.waiting.remove(&ticket);
            self.prune(&kind);
        }
    }

    /// Adds a worker that serves `kinds` and takes `free` sessions.
    pub fn join(&mut self, conn: ConnId, mut kinds: Vec<Kind>, free: u32) {
        kinds.sort_unstable();
        kinds.dedup();
        for kind in &kinds {
            self.lines.entry(kind.clone()).or_default().servers.push(conn);
        }
        self.workers.insert(conn, Worker { kinds, free, coming: 0, silent: false });
    }

    /// Removes a worker.
    pub fn leave(&mut self, conn: ConnId) {
        for kind in self.workers.remove(&conn).map(|worker| worker.kinds).unwrap_or_default() {
            if let Some(line) = self.lines.get_mut(&kind) {
                line.servers.retain(|server| *server != conn);
            }
            self.prune(&kind);
        }
    }

    /// Notes how many further sessions a worker says it takes; what is on its way to it is not in that number.
    pub fn set_free(&mut self, conn: ConnId, free: u32) {
        if let Some(worker) = self.workers.get_mut(&conn) {
            worker.free = free.saturating_sub(worker.coming);
        }
    }

    /// Notes whether a worker is silent (Q4).
    pub fn set_silent(&mut self, conn: ConnId, silent: bool) {
        if let Some(worker) = self.workers.get_mut(&conn) {
            worker.silent = silent;
        }
    }

    /// Hands out the next session to the worker with the most free slots, if there is such a pair (Q1, Q2, Q3).
    pub fn next(&mut self) -> Option<(SessionId, ConnId)> {
        let (_, session, conn) = self
            .lines
            .values()
            .filter_map(|line| {
                let (ticket, session) = line.waiting.first_key_value()?;
                Some((*ticket, *session, self.freest(line)?))
            })
            .min_by_key(|(ticket, ..)| *ticket)?;
        self.remove(session);
        if let Some(worker) = self.workers.get_mut(&conn) {
            worker.free -= 1;
            worker.coming += 1;
        }
        Some((session, conn))
    }

    /// Notes the end of a hand-over; a slot that was not `used` is free again.
    pub fn settle(&mut self, conn: ConnId, used: bool) {
        if let Some(worker) = self.workers.get_mut(&conn) {
            worker.coming = worker.coming.saturating_sub(1);
            worker.free += u32::from(!used);
        }
    }

    /// Says why a session of this kind waits.
    #[must_use]
    pub fn waiting(&self, kind: &Kind) -> Waiting {
        let servers = self.lines.get(kind).map_or(&[][..], |line| &line.servers);
        if servers.is_empty() {
            return Waiting::NoWorker { served: self.served_versions(kind) };
        }
        let busy = servers.iter().filter_map(|conn| self.workers.get(conn)).all(|worker| worker.takes() == 0);
        if busy { Waiting::Busy { workers: servers.len() } } else { Waiting::Soon }
    }

    /// What a worker serves, and its free slots.
    #[must_use]
    pub fn serves(&self, conn: ConnId) -> (Vec<Kind>, u32) {
        self.workers.get(&conn).map(|worker| (worker.kinds.clone(), worker.free)).unwrap_or_default()
    }

    /// True if no session waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn freest(&self, line: &Line) -> Option<ConnId> {
        let free = |conn: &ConnId| self.workers.get(conn).map_or(0, Worker::takes);
        line.servers.iter().copied().filter(|conn| free(conn) > 0).max_by_key(free)
    }

    fn served_versions(&self, kind: &Kind) -> Vec<Arc<str>> {
        let same = |other: &Kind| other.namespace == kind.namespace && other.workflow == kind.workflow;
        let mut served: Vec<Arc<str>> = self
            .lines
            .iter()
            .filter(|(other, line)| same(other) && !line.servers.is_empty())
            .map(|(other, _)| Arc::clone(&other.version))
            .collect();
        served.sort_unstable();
        served
    }

    fn prune(&mut self, kind: &Kind) {
        if self.lines.get(kind).is_some_and(|line| line.waiting.is_empty() && line.servers.is_empty()) {
            self.lines.remove(kind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(workflow: &str, version: &str) -> Kind {
        Kind { namespace: "n".into(), workflow: workflow.into(), version: version.into() }
    }

    fn session(n: u8) -> SessionId {
        SessionId([n; 16])
    }

    #[test]
    fn q1_only_the_pinned_version_is_served_and_the_reason_is_said() {
        let mut queue = Queue::default();
        queue.join(ConnId(1), vec![kind("audit", "2")], 5);
        queue.enqueue(session(1), kind("audit", "1"));
        assert_eq!(queue.next(), None);
        assert_eq!(queue.waiting(&kind("audit", "1")), Waiting::NoWorker { served: vec!["2".into()] });
        queue.join(ConnId(2), vec![kind("audit", "1")], 1);
        assert_eq!(queue.next(), Some((session(1), ConnId(2))));
    }

    #[test]
    fn q1_another_namespace_is_another_kind() {
        let mut queue = Queue::default();
        queue.join(ConnId(1), vec![Kind { namespace: "other".into(), ..kind("audit", "1") }], 5);
        queue.enqueue(session(1), kind("audit", "1"));
        assert_eq!(queue.next(), None);
        assert_eq!(queue.waiting(&kind("audit", "1")), Waiting::NoWorker { served: vec![] });
    }

    #[test]
    fn q2_whoever_waited_longest_goes_first_across_kinds() {
        let mut queue = Queue::default();
        for (n, workflow) in [(1, "b"), (2, "a"), (3, "b"), (4, "unserved")] {
            queue.enqueue(session(n), kind(workflow, "1"));
        }
        queue.join(ConnId(1), vec![kind("a", "1"), kind("b", "1")], 10);
        let order: Vec<_> = std::iter::from_fn(|| queue.next()).map(|(session, _)| session).collect();
        assert_eq!(order, [session(1), session(2), session(3)]);
        assert!(!queue.is_empty());
    }

    #[test]
    fn q3_a_worker_gets_no_more_than_it_takes_and_hand_overs_count() {
        let mut queue = Queue::default();
        queue.join(ConnId(1), vec![kind("a", "1")], 2);
        for n in 1..=4 {
            queue.enqueue(session(n), kind("a", "1"));
        }
        assert!(queue.next().is_some() && queue.next().is_some());
        assert_eq!(queue.next(), None);
        assert_eq!(queue.waiting(&kind("a", "1")), Waiting::Busy { workers: 1 });
        queue.set_free(ConnId(1), 2); // said before it had seen the two on their way
        assert_eq!(queue.next(), None);
        queue.settle(ConnId(1), false);
        assert_eq!(queue.next(), Some((session(3), ConnId(1))));
        queue.settle(ConnId(1), true);
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn q3_the_freest_worker_is_chosen_and_a_gone_one_gets_nothing() {
        let mut queue = Queue::default();
        queue.join(ConnId(1), vec![kind("a", "1")], 1);
        queue.join(ConnId(2), vec![kind("a", "1"), kind("a", "1")], 3);
        queue.enqueue(session(1), kind("a", "1"));
        assert_eq!(queue.next(), Some((session(1), ConnId(2))));
        queue.leave(ConnId(2));
        queue.enqueue(session(2), kind("a", "1"));
        assert_eq!(queue.next(), Some((session(2), ConnId(1))));
    }

    #[test]
    fn q4_a_silent_worker_gets_nothing_until_it_is_heard_of() {
        let mut queue = Queue::default();
        queue.join(ConnId(1), vec![kind("a", "1")], 1);
        queue.set_silent(ConnId(1), true);
        queue.enqueue(session(1), kind("a", "1"));
        assert_eq!(queue.next(), None);
        assert_eq!(queue.waiting(&kind("a", "1")), Waiting::Busy { workers: 1 });
        queue.set_silent(ConnId(1), false);
        assert_eq!(queue.next(), Some((session(1), ConnId(1))));
    }

    #[test]
    fn q5_queueing_again_keeps_the_place_and_removing_forgets_it() {
        let mut queue = Queue::default();
        queue.enqueue(session(1), kind("a", "1"));
        queue.enqueue(session(2), kind("a", "1"));
        queue.enqueue(session(1), kind("a", "1"));
        queue.remove(session(2));
        queue.join(ConnId(1), vec![kind("a", "1")], 9);
        assert_eq!(queue.next(), Some((session(1), ConnId(1))));
        assert_eq!(queue.next(), None);
        queue.leave(ConnId(1));
        assert!(queue.lines.is_empty() && queue.places.is_empty() && queue.workers.is_empty());
    }
}
