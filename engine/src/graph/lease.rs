//! Fenced: of two workers on one session, the one with the older lease epoch gets every append refused.
//!
//! Owns grant, re-attachment, takeover and release. Never knows time-outs: the edge says which holder is dead.
//!
//! L1. At most one instance holds a session's lease; every grant has a new, larger epoch.
//! L2. An append is accepted only with the epoch in force, while somebody holds the lease.
//! L3. Expiry alone fences nobody: the same instance re-attaches at its epoch, without an event, until a takeover.
//! L4. A lease is taken only from a holder that the edge names as dead, or by the same instance for itself.
//! L5. A takeover rolls back every open zone in the same frame; a release does so before it.
//! L6. A worker of another version than the one pinned gets no lease, and nothing is appended.
//! L7. A session that has ended, waits or is paused is bound without a lease, which is no error.

use super::command::{Acquire, Code, LeaseRequest, Rejection, Reply};
use super::decide::{Decision, View, found, invalid, nothing};
use super::draft::Draft;
use super::event::{Author, Body, LeaseGranted, ReleaseReason, RollbackReason};
use super::hold;
use super::ids::{Epoch, InstanceId, TimeMs};
use super::session::Head;
use super::zone;

/// When to ask again for a lease that is held, in milliseconds; the edge knows the TTL and may say better.
pub const LEASE_RETRY_MS: u64 = 250;

/// A request to be bound to an existing session.
pub(super) struct Bind<'a> {
    pub lease: &'a LeaseRequest,
    pub held: Option<Epoch>,
    pub version: Option<&'a str>,
}

pub(super) fn acquire(view: &impl View, acquire: &Acquire, now: TimeMs) -> Result<Decision, Rejection> {
    let head = found(view, acquire.session)?;
    let ask = Bind { lease: &acquire.lease, held: acquire.held, version: acquire.version.as_deref() };
    bind(&head, &ask, now)
}

/// Binds an instance to an existing session.
pub(super) fn bind(head: &Head, ask: &Bind<'_>, now: TimeMs) -> Result<Decision, Rejection> {
    if head.system {
        return Err(invalid("a system session is run by nobody; name a session of a workflow"));
    }
    if head.status.is_terminal() {
        return Ok(bound(head, None)); // L7
    }
    if ask.held.is_some_and(|held| held != head.epoch) {
        return Err(fenced(head));
    }
    hold::unless_held(head, ask.lease.incarnation)?; // H1
    let instance = ask.lease.instance;
    if ask.held.is_some() && head.holder == Some(instance) {
        check_version(head, ask.version)?;
        return Ok(bound(head, ask.held)); // L3
    }
    if !head.status.is_runnable() {
        return Ok(bound(head, None)); // L7
    }
    check_version(head, ask.version)?;
    match head.holder {
        None => Ok(grant(head, ask.lease, now)),
        Some(holder) if may_take(holder, ask.lease) => Ok(grant(head, ask.lease, now)),
        Some(_) => Err(held(head)),
    }
}

/// L4. The edge's word is about the holder it saw: another one, who took over since, is alive.
fn may_take(holder: InstanceId, lease: &LeaseRequest) -> bool {
    holder == lease.instance || lease.dead == Some(holder)
}

/// Grants the next epoch, over the present holder if there is one (L1, L5).
fn grant(head: &Head, lease: &LeaseRequest, now: TimeMs) -> Decision {
    let epoch = Epoch(head.epoch.0 + 1);
    let mut draft = Draft::after(head, now);
    let granted = LeaseGranted {
        epoch,
        instance: lease.instance,
        takeover: head.holder.is_some(),
        incarnation: lease.incarnation,
    };
    draft.push(Author::Driver, Body::LeaseGranted(granted));
    for open in &head.zones {
        let total = lease.evidence.iter().find(|total| total.zone_key == open.zone_key);
        let body = zone::rolled_back(open, RollbackReason::Takeover, total);
        draft.push(Author::Driver, body);
    }
    draft.answer(Reply::Bound { created: false, epoch: Some(epoch) })
}

/// Gives a lease back.
pub(super) fn release(
    head: &Head,
    epoch: Epoch,
    reason: ReleaseReason,
    now: TimeMs,
) -> Result<Decision, Rejection> {
    if epoch != head.epoch {
        return Err(fenced(head));
    }
    if head.holder.is_none() {
        // Released before, or the session has ended with the lease: what was asked for is so.
        return Ok(nothing(head.session, Reply::Done { entry: None }));
    }
    let author = Author::Worker(epoch);
    let mut draft = Draft::after(head, now);
    zone::roll_back_all(head, author, &mut draft); // L5
    let seq = draft.push(author, Body::LeaseReleased { epoch, reason });
    Ok(draft.appended(seq))
}

/// Refuses an append whose epoch is not the one in force (L2).
pub(super) fn fence(head: &Head, epoch: Epoch) -> Result<(), Rejection> {
    if epoch == head.epoch && head.holder.is_some() {
        return Ok(());
    }
    Err(fenced(head))
}

fn fenced(head: &Head) -> Rejection {
    let message = format!(
        "the lease is at epoch {} and not held with the epoch sent; abandon this run and attach anew",
        head.epoch.0
    );
    Rejection::new(Code::Fenced, message)
}

fn held(head: &Head) -> Rejection {
    let message = format!(
        "another worker runs session {}; wait for its result, or ask again when its lease has ended",
        head.session
    );
    Rejection::new(Code::LeaseHeld, message).retry_after(LEASE_RETRY_MS)
}

fn check_version(head: &Head, version: Option<&str>) -> Result<(), Rejection> {
    match version {
        Some(version) if *version != *head.version => Err(Rejection::new(
            Code::VersionMismatch,
            format!(
                "the session is pinned to version {} of {} and was asked for with {version}; run it with a worker that serves the pinned version",
                head.version, head.workflow
            ),
        )), // L6
        Some(_) | None => Ok(()),
    }
}

fn bound(head: &Head, epoch: Option<Epoch>) -> Decision {
    nothing(head.session, Reply::Bound { created: false, epoch })
}
