//! Offers sessions to workers: takes the lease in the worker's name, then tells it.
//!
//! 1. A lease is asked for only while its holder is dead; the ledger judges again.
//! 2. An offer ends in one of three ways: bound, put back, or void because the session moved on.

use std::sync::Arc;

use super::{Bound, ConnId, Dispatch};
use crate::graph::command::{Acquire, Code, Command, EvidenceTotal, LeaseRequest, Reply};
use crate::graph::ids::{Epoch, InstanceId, Seq, SessionId};
use crate::graph::session::{Head, OpenZone};
use crate::ledger::{Committed, Handle, Origin, ReadError, Refused, Submission};

impl Dispatch {
    /// Offers sessions to workers until the process ends.
    pub async fn run(self: Arc<Self>) {
        loop {
            self.wake.notified().await;
            while let Some((session, conn, instance)) = self.take_offer() {
                self.offer(session, conn, instance);
            }
        }
    }

    fn take_offer(&self) -> Option<(SessionId, ConnId, InstanceId)> {
        if self.is_stopping() {
            return None;
        }
        let mut state = self.state.lock();
        let (session, conn) = state.sessions.offer()?;
        let instance = state.peers.get(&conn).map(|connected| connected.instance);
        if instance.is_none() {
            state.sessions.queue.leave(conn);
            state.sessions.refused(session, None, |_| false);
        }
        Some((session, conn, instance?))
    }

    fn offer(self: &Arc<Self>, session: SessionId, conn: ConnId, instance: InstanceId) {
        match self.acquire(session, instance) {
            Ok(Some(acquire)) => {
                let dispatch = Arc::clone(self);
                let submission = Submission {
                    command: Command::Acquire(acquire),
                    blobs: self.handle.blobs(&[0; 32]),
                    evidence: None,
                    new_lineage: None,
                    origin: Origin(Some(instance)),
                };
                let settle = move |result| dispatch.settle(session, conn, result);
                self.handle.submit_with(submission, Box::new(settle));
            }
            Ok(None) => self.put_back(session, conn, false),
            Err(error) => {
                tracing::error!(%session, %error, "session cannot be offered to a worker");
                self.put_back(session, conn, true);
            }
        }
    }

    /// The command that takes the lease; `None`: there is nothing to take (any more).
    fn acquire(&self, session: SessionId, instance: InstanceId) -> Result<Option<Acquire>, ReadError> {
        let Some(head) = self.handle.reader().head(session)? else { return Ok(None) };
        let held = head.holder.is_some_and(|holder| self.holds(session, holder));
        if held || !head.status.is_runnable() || head.is_held(self.handle.identity().incarnation) {
            return Ok(None);
        }
        let lease = self.lease_request(instance, Some(&head))?;
        Ok(Some(Acquire { session, lease, held: None, version: Some(head.version.clone()) }))
    }

    /// What `instance` says when it asks for the lease of a session.
    ///
    /// # Errors
    /// As every read.
    pub fn lease_request(
        &self,
        instance: InstanceId,
        head: Option<&Head>,
    ) -> Result<LeaseRequest, ReadError> {
        let alive = |holder| head.is_some_and(|head| self.holds(head.session, holder));
        lease_request(&self.handle, instance, head, alive)
    }

    /// True if `holder` is alive and may know that it holds the session's lease.
    fn holds(&self, session: SessionId, holder: InstanceId) -> bool {
        self.holder_alive(holder) && !self.state.lock().sessions.is_abandoned(session, holder)
    }

    fn settle(&self, session: SessionId, conn: ConnId, result: Result<Committed, Refused>) {
        match result {
            Ok(Committed { reply: Reply::Bound { epoch: Some(epoch), .. }, head: Some(head), .. }) => {
                self.hand_over(conn, head, epoch);
            }
            Ok(_) => self.put_back(session, conn, false),
            Err(Refused::Rejected(rejection)) => {
                tracing::debug!(%session, code = ?rejection.code, "offer refused");
                let gone = matches!(rejection.code, Code::SessionNotFound | Code::SessionEnded);
                self.put_back(session, conn, !gone);
            }
            Err(Refused::Overloaded { .. } | Refused::Failed(_)) => self.put_back(session, conn, true),
            // The process is about to end.
            Err(Refused::Closed) => {}
        }
    }

    /// Binds the worker to the session it got and tells it, before anything later of the session can reach it.
    fn hand_over(&self, conn: ConnId, head: Arc<Head>, epoch: Epoch) {
        let mut state = self.state.lock();
        state.sessions.queue.settle(conn, true);
        let connected = state.peers.get(&conn);
        let Some((instance, peer)) = connected.map(|c| (c.instance, Arc::clone(&c.peer))) else {
            // The worker left meanwhile: the lease is its instance's, and the TTL decides.
            state.sessions.refused(head.session, None, |instance| self.holder_alive(instance));
            return;
        };
        if state.sessions.bind(head.session, instance, conn, epoch) {
            peer.bound(Bound { request_id: 0, head, epoch: Some(epoch), created: false, from: Seq(1) });
        }
    }

    fn put_back(&self, session: SessionId, conn: ConnId, later: bool) {
        let now_ms = self.clock.mono_ms();
        let mut state = self.state.lock();
        state.sessions.queue.settle(conn, false);
        state
            .sessions
            .refused(session, later.then_some(now_ms), |instance| self.leases.alive(instance, now_ms));
    }
}

/// What `instance` says when it asks for the lease of a session: which holder is dead, and what its zones streamed.
///
/// # Errors
/// As every read.
pub fn lease_request(
    handle: &Handle,
    instance: InstanceId,
    head: Option<&Head>,
    alive: impl Fn(InstanceId) -> bool,
) -> Result<LeaseRequest, ReadError> {
    let holder = head.and_then(|head| head.holder);
    let dead = holder.filter(|holder| !alive(*holder));
    let total = |session, zone: &OpenZone| -> Result<EvidenceTotal, ReadError> {
        let (bytes, tokens) = handle.reader().evidence_total(session, zone)?;
        Ok(EvidenceTotal { zone_key: zone.zone_key.clone(), bytes, tokens })
    };
    let evidence = match head {
        // Only a takeover rolls zones back.
        Some(head) if dead.is_some() || holder == Some(instance) => {
            head.zones.iter().map(|zone| total(head.session, zone)).collect::<Result<_, _>>()?
        }
        Some(_) | None => Vec::new(),
    };
    Ok(LeaseRequest { instance, incarnation: handle.identity().incarnation, dead, evidence })
}
