//! What a worker asks for: each request becomes one command, each command's reply one answer.
//!
//! 1. A request that is refused before it is submitted is answered at once, in its place among the session's answers.
//! 2. Responders run on the committer, in ledger order: binding a connection there is what makes replay and live events
//!    meet without gap or repetition.

use std::sync::Arc;

use cellaflow_proto::v1;
use v1::append::Op;

use super::outbox::{Out, Outbox};
use super::reader::Connection;
use super::refuse;
use crate::dispatch::{Bound, ConnId, Dispatch, Peer as _};
use crate::graph::command::{Acquire, Code, Command, Rejection, Reply};
use crate::graph::event::Body;
use crate::graph::ids::{Seq, SessionId, TimeMs};
use crate::ledger::{
    Blobs, Committed, Origin, Place, ReadError, Refused, Responder, StoredEvent, Submission,
};
use crate::rpc::auth::access;
use crate::rpc::binding;
use crate::rpc::convert::{self, Intake};
use crate::rpc::{stub, taken};

/// Bytes from which on hashing and compressing a request moves off the network threads.
const HEAVY_BYTES: u64 = 256 * 1024;

/// Why a request goes no further.
pub enum Stop {
    Rejected(Rejection),
    Unreadable(ReadError),
}

impl From<Rejection> for Stop {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        Self::Unreadable(error)
    }
}

/// Which request an answer belongs to.
#[derive(Clone, Copy)]
struct Asked {
    request_id: u64,
    session: Option<SessionId>,
    cost: u64,
    /// The answer is the event: it names a child whose id was minted here.
    names_child: bool,
}

impl Connection {
    /// Appends to a session.
    pub fn append(&mut self, append: v1::Append, cost: u64) {
        let session = append.session_id.parse().ok();
        let names_child = matches!(append.op, Some(v1::append::Op::ChildSpawned(_)));
        let asked = Asked { request_id: append.request_id, session, cost, names_child };
        let heavy = cost + self.transfers.bytes() as u64 > HEAVY_BYTES;
        let submission =
            if heavy { off_the_network(|| self.appending(append)) } else { self.appending(append) };
        match submission {
            Ok(submission) => self.submit(submission, asked),
            Err(stop) => self.refuse(asked, stop),
        }
    }

    fn appending(&mut self, append: v1::Append) -> Result<Submission, Stop> {
        if let Some(op) = &append.op {
            access::may_send(self.principal.role, access::APPEND, op_arm(op))
                .map_err(|refusal| denied(refusal.to_string()))?;
        }
        if self.other_incarnation {
            return Err(refuse::other_incarnation().into());
        }
        let session = convert::session_id(&append.session_id)?;
        let place = self.place(session)?;
        let mut blobs = self.shared.parts.context.ledger.blobs(&place.salt);
        let transfers = &mut self.transfers;
        let mut intake = Intake {
            blobs: &mut blobs,
            namespace_salt: &self.namespace.salt,
            transfers: &mut |id| transfers.take(id),
        };
        let converted = convert::to_append(append, &mut intake);
        // What a transfer lacked says more than that it was lacking.
        let mut converted = converted.map_err(|rejection| self.transfers.refusal().unwrap_or(rejection))?;
        if let Command::Append(append) = &mut converted.command
            && let Some(minted) = append.op.to_mint()
        {
            *minted = self.shared.parts.context.mint.related(session);
        }
        let reader = self.shared.parts.context.ledger.reader();
        let mut converted = stub::stubbed(converted, &place, reader, &mut blobs)??;
        taken::bring(&mut converted.command, reader, &mut blobs)??;
        Ok(Submission {
            command: converted.command,
            blobs,
            evidence: converted.evidence,
            new_lineage: None,
            origin: Origin(Some(self.instance)),
        })
    }

    /// Gives a lease back.
    pub fn release(&mut self, release: v1::Release, cost: u64) {
        let asked = Asked {
            request_id: release.request_id,
            session: release.session_id.parse().ok(),
            cost,
            names_child: false,
        };
        match self.releasing(release) {
            Ok(submission) => self.submit(submission, asked),
            Err(stop) => self.refuse(asked, stop),
        }
    }

    fn releasing(&self, release: v1::Release) -> Result<Submission, Stop> {
        self.place(convert::session_id(&release.session_id)?)?;
        Ok(self.plain(convert::release(release)?))
    }

    /// Binds to a session.
    pub fn attach(&mut self, attach: v1::Attach, cost: u64) {
        let asked = Asked {
            request_id: attach.request_id,
            session: attach.session_id.parse().ok(),
            cost,
            names_child: false,
        };
        if attach.look {
            return match self.looking(&attach) {
                Ok(bound) => self.outbox.answer_bound(bound, cost),
                Err(stop) => self.refuse(asked, stop),
            };
        }
        match self.attaching(attach) {
            Ok((submission, from)) => self.submit_binding(submission, asked, from),
            Err(stop) => self.refuse(asked, stop),
        }
    }

    fn attaching(&self, attach: v1::Attach) -> Result<(Submission, Seq), Stop> {
        let attach = convert::attach(attach)?;
        self.place(attach.session)?;
        if attach.held.is_some() && self.other_incarnation {
            return Err(refuse::other_incarnation().into());
        }
        if attach.held.is_none() {
            self.check_new_work()?;
        }
        let parts = &self.shared.parts;
        let head = parts.context.ledger.reader().head(attach.session)?;
        let lease = parts.dispatch.lease_request(self.instance, head.as_deref())?;
        let acquire =
            Acquire { session: attach.session, lease, held: attach.held, version: Some(attach.version) };
        Ok((self.plain(Command::Acquire(acquire)), attach.from))
    }

    /// What a session is, for who does not run it: nothing is submitted.
    fn looking(&self, attach: &v1::Attach) -> Result<Bound, Stop> {
        let session = convert::session_id(&attach.session_id)?;
        self.place(session)?;
        let head = self.shared.parts.context.ledger.reader().head(session)?.ok_or_else(refuse::no_session)?;
        let from = head.seq;
        Ok(Bound { request_id: attach.request_id, head, epoch: None, created: false, from })
    }

    /// Starts a session and takes its lease.
    pub async fn start(&mut self, start: v1::Start, cost: u64) {
        let asked = Asked { request_id: start.request_id, session: None, cost, names_child: false };
        match self.starting(start).await {
            Ok(submission) => self.submit_binding(submission, asked, Seq(1)),
            Err(refused) => answer_refused(&self.outbox, asked, refused),
        }
    }

    async fn starting(&mut self, start: v1::Start) -> Result<Submission, Refused> {
        let start = self.checked_start(start).map_err(Refused::Rejected)?;
        binding::start(&self.shared.parts.context, &self.principal, start, Origin(Some(self.instance))).await
    }

    fn checked_start(&mut self, start: v1::Start) -> Result<convert::Start, Rejection> {
        self.check_new_work()?;
        let request = start.request.ok_or_else(|| invalid("start.request must be set"))?;
        let transfers = &mut self.transfers;
        let start = convert::start(request, &mut |id| transfers.take(id));
        let start = start.map_err(|rejection| self.transfers.refusal().unwrap_or(rejection))?;
        if start.version.is_empty() {
            return Err(invalid("start.request.version must be set: it is the code that runs here"));
        }
        let own = &self.namespace.name;
        if !start.namespace.is_empty() && *start.namespace != **own {
            return Err(refuse::other_namespace(own));
        }
        if start.instance.is_some_and(|instance| instance != self.instance) {
            return Err(invalid("start.request.instance must be the Hello's, or empty"));
        }
        Ok(convert::Start { namespace: own.to_string(), instance: Some(self.instance), ..start })
    }

    /// The session's place, if it exists in this connection's namespace (W1).
    fn place(&self, session: SessionId) -> Result<Arc<Place>, Stop> {
        let place = self.shared.parts.context.ledger.lineage(session)?;
        let place = place.filter(|place| place.namespace == self.namespace.name);
        place.ok_or_else(|| refuse::no_session().into())
    }

    fn check_new_work(&self) -> Result<(), Rejection> {
        let parts = &self.shared.parts;
        if parts.dispatch.is_stopping() {
            return Err(refuse::draining());
        }
        let max = usize::try_from(parts.limits.sessions_per_worker_max).unwrap_or(usize::MAX);
        if parts.dispatch.held_by(self.instance) >= max {
            return Err(refuse::too_many_sessions(max));
        }
        Ok(())
    }

    fn plain(&self, command: Command) -> Submission {
        let blobs: Blobs = self.shared.parts.context.ledger.blobs(&[0; 32]);
        Submission { command, blobs, evidence: None, new_lineage: None, origin: Origin(Some(self.instance)) }
    }

    fn refuse(&self, asked: Asked, stop: Stop) {
        let out = match stop {
            Stop::Rejected(rejection) => refuse::nack(asked.request_id, asked.session, &rejection),
            Stop::Unreadable(error) => {
                tracing::error!(%error, "request cannot be judged");
                refuse::unreadable(asked.request_id, asked.session, &error)
            }
        };
        self.outbox.answer(asked.session, out, asked.cost);
    }

    fn submit(&self, submission: Submission, asked: Asked) {
        let outbox = Arc::clone(&self.outbox);
        let responder: Responder = Box::new(move |result| answer(&outbox, asked, result));
        self.shared.parts.context.ledger.submit_with(submission, responder);
    }

    fn submit_binding(&self, submission: Submission, asked: Asked, from: Seq) {
        let (outbox, dispatch) = (Arc::clone(&self.outbox), Arc::clone(&self.shared.parts.dispatch));
        let conn = self.conn;
        let responder: Responder =
            Box::new(move |result| answer_bound(&outbox, &dispatch, Binding { asked, conn, from }, result));
        self.shared.parts.context.ledger.submit_with(submission, responder);
    }
}

/// Where a granted lease goes.
struct Binding {
    asked: Asked,
    conn: ConnId,
    from: Seq,
}

fn answer(outbox: &Outbox, asked: Asked, result: Result<Committed, Refused>) {
    let Asked { request_id, session, cost, names_child } = asked;
    let ack = |seq, time, duplicate| Out::Ack { request_id, seq, time, duplicate };
    let committed = match result {
        Ok(committed) => committed,
        Err(refused) => return answer_refused(outbox, asked, refused),
    };
    match (committed.reply, session) {
        (Reply::Appended { seq, .. }, Some(session)) if names_child => {
            outbox.answer_recorded(session, request_id, seq, cost);
        }
        (Reply::Appended { seq, time, duplicate }, _) => {
            outbox.answer(session, ack(seq, time, duplicate), cost);
            deliver_after(outbox, session, seq, &committed);
        }
        (Reply::Recorded { seq }, Some(session)) => outbox.answer_recorded(session, request_id, seq, cost),
        // It became no event; so is a lease that had been given back before.
        (Reply::Done { .. } | Reply::Recorded { .. } | Reply::Bound { .. }, _) => {
            outbox.answer(session, ack(Seq(0), TimeMs(0), false), cost);
        }
    }
}

/// Sends the outcomes that an append met in its own frame (a signal that was buffered): dispatch tells a run only what
/// others did.
fn deliver_after(outbox: &Outbox, session: Option<SessionId>, seq: Seq, committed: &Committed) {
    let Some(session) = session else { return };
    let met = |stored: &&Arc<StoredEvent>| {
        stored.event.seq > seq && matches!(stored.event.body, Body::SignalDelivered { .. })
    };
    let events: Vec<_> = committed.events.iter().filter(met).map(Arc::clone).collect();
    if !events.is_empty() {
        outbox.events(session, &events.into());
    }
}

fn answer_bound(outbox: &Outbox, dispatch: &Dispatch, binding: Binding, result: Result<Committed, Refused>) {
    let Binding { asked, conn, from } = binding;
    let committed = match result {
        Ok(committed) => committed,
        Err(refused) => return answer_refused(outbox, asked, refused),
    };
    let Committed { reply: Reply::Bound { created, epoch }, head: Some(head), .. } = committed else {
        return answer_refused(outbox, asked, Refused::Rejected(refuse::no_session()));
    };
    if let Some(epoch) = epoch
        && !dispatch.bind(conn, head.session, epoch)
    {
        // The connection was replaced meanwhile; the lease is its instance's and can be attached to.
        return answer_refused(outbox, asked, Refused::Rejected(refuse::draining()));
    }
    let bound = Bound { request_id: asked.request_id, head, epoch, created, from };
    outbox.answer_bound(bound, asked.cost);
}

fn answer_refused(outbox: &Outbox, asked: Asked, refused: Refused) {
    let Asked { request_id, session, cost, names_child: _ } = asked;
    let out = match refused {
        Refused::Rejected(rejection) => refuse::nack(request_id, session, &rejection),
        Refused::Overloaded { retry_after_ms } => {
            refuse::nack(request_id, session, &refuse::overloaded(retry_after_ms))
        }
        Refused::Failed(error) => {
            tracing::error!(%error, "request cannot be judged");
            refuse::unreadable(request_id, session, &error)
        }
        Refused::Closed => {
            let message = "the engine is stopping and the outcome of requests in flight is unknown: \
                           connect again and send them again";
            return outbox.abort(tonic::Status::unavailable(message));
        }
    };
    outbox.answer(session, out, cost);
}

/// Runs work that takes milliseconds without holding up the other connections of this thread.
fn off_the_network<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

fn invalid(message: &str) -> Rejection {
    Rejection { code: Code::InvalidArgument, message: message.to_owned(), retry_after_ms: None }
}

fn denied(message: String) -> Rejection {
    Rejection { code: Code::PermissionDenied, message, retry_after_ms: None }
}

/// Name of an append's arm, as the access table spells it.
const fn op_arm(op: &Op) -> &'static str {
    match op {
        Op::StepCompleted(_) => "step_completed",
        Op::StepFailed(_) => "step_failed",
        Op::StepHeartbeat(_) => "step_heartbeat",
        Op::GuardIntent(_) => "guard_intent",
        Op::GuardUnknown(_) => "guard_unknown",
        Op::GuardReconciliation(_) => "guard_reconciliation",
        Op::ZoneEntered(_) => "zone_entered",
        Op::ZoneCommitted(_) => "zone_committed",
        Op::ZoneFailed(_) => "zone_failed",
        Op::ZoneRolledBack(_) => "zone_rolled_back",
        Op::ZoneEvidence(_) => "zone_evidence",
        Op::SessionCompleted(_) => "session_completed",
        Op::SessionFailed(_) => "session_failed",
        Op::SessionPaused(_) => "session_paused",
        Op::TimerStarted(_) => "timer_started",
        Op::SignalAwaited(_) => "signal_awaited",
        Op::ApprovalRequested(_) => "approval_requested",
        Op::ChildSpawned(_) => "child_spawned",
        Op::ChildCancelRequested(_) => "child_cancel_requested",
        Op::WaitDropped(_) => "wait_dropped",
        Op::SessionContinued(_) => "session_continued",
        Op::SessionCancelled(_) => "session_cancelled",
        Op::BudgetReserved(_) => "budget_reserved",
        Op::BudgetReleased(_) => "budget_released",
    }
}
