//! Cancelled: cancelling runs down the tree, children first, and cleanup still runs; terminating does not ask.
//!
//! Owns asking to cancel, ending as cancelled, and terminating. Never reaches into other sessions: the driver of the
//! tree carries a request to the children.
//!
//! C1. Asking to cancel is an event. It wakes a session that waits or is paused, so that its run can clean up; one that
//!     never ran has nothing to clean up and ends at once.
//! C2. Once asked, a session ends as cancelled and in no other way; what was committed before the request stands.
//! C3. Asking again changes nothing, unless the session was paused since: then it is woken again.
//! C4. A cancelled session says which effects nobody knows the outcome of. Those that may still report are waited for,
//!     those that only a person could resolve are not; after the request they pause nothing.
//! C5. Terminating ends a session at once, whatever is open; its worker is told by losing the lease.

use std::sync::Arc;

use super::command::{Cancel, Code, Rejection};
use super::decide::{Decision, Run, invalid};
use super::draft::Draft;
use super::event::{Author, Body, SessionCancelled};
use super::ids::{DedupeId, Epoch, StepKey, TimeMs};
use super::session::{Head, IntentState, OpenIntent, REASON_BYTES_MAX, Status};
use super::zone;
use super::{child, end};

/// Somebody asks a session to cancel.
pub(super) fn cancel(head: &Head, cancel: &Cancel, now: TimeMs) -> Result<Decision, Rejection> {
    if let Some(answer) = admit(head, cancel)? {
        return Ok(answer);
    }
    let mut draft = Draft::after(head, now);
    if head.epoch == Epoch(0) {
        let body = cancelled(cancel, false, Vec::new());
        let seq = draft.push(cancel.author, body); // C1
        return Ok(draft.appended(seq));
    }
    if let Some(seq) = head.cancel_requested.filter(|_| !matches!(head.status, Status::Paused { .. })) {
        return Ok(end::seen_before(head, seq)); // C3
    }
    let body = Body::CancelRequested { reason: cancel.reason.clone(), by: cancel.by.clone() };
    let seq = draft.push(cancel.author, body);
    Ok(draft.appended(seq))
}

/// Somebody ends a session at once (C5).
pub(super) fn terminate(head: &Head, cancel: &Cancel, now: TimeMs) -> Result<Decision, Rejection> {
    if let Some(answer) = admit(head, cancel)? {
        return Ok(answer);
    }
    let mut draft = Draft::after(head, now);
    zone::roll_back_all(head, unnamed(cancel.author), &mut draft);
    let unknown = keys(head.intents.iter().filter(|intent| intent.state != IntentState::MayRetry));
    let seq = draft.push(cancel.author, cancelled(cancel, true, unknown));
    Ok(draft.appended(seq))
}

/// The run has cleaned up and ends its session.
pub(super) fn ended(run: &Run<'_>, reason: &Arc<str>) -> Result<Decision, Rejection> {
    let head = run.head;
    check_reason(reason)?;
    if head.cancel_requested.is_none() {
        return Err(invalid("nobody asked to cancel this session; complete it or fail it")); // C2
    }
    run.unless_paused()?;
    end::check_settled(head, run.now, may_report)?; // C4
    child::check_ended(head)?; // H3
    let mut draft = run.draft();
    zone::roll_back_all(head, Author::Worker(run.append.epoch), &mut draft);
    let unknown = keys(head.intents.iter().filter(|intent| intent.state == IntentState::Due));
    let body = SessionCancelled { reason: reason.clone(), by: "".into(), terminated: false, unknown };
    let seq = draft.push_append(run.append, Body::SessionCancelled(body));
    Ok(draft.appended(seq))
}

/// Refuses another end than the one that was asked for (C2).
pub(super) fn unless_requested(head: &Head) -> Result<(), Rejection> {
    match head.cancel_requested {
        None => Ok(()),
        Some(seq) => Err(Rejection::new(
            Code::CancelRequested,
            format!(
                "somebody asked at seq {seq} to cancel this session; run the cleanup and end it as cancelled"
            ),
        )),
    }
}

/// True while an attempt may still say what became of it.
fn may_report(intent: &OpenIntent) -> bool {
    match intent.state {
        IntentState::Open | IntentState::Unknown => true,
        IntentState::Due | IntentState::MayRetry => false,
    }
}

/// What both requests have in common; an answer if the request was carried out before.
fn admit(head: &Head, cancel: &Cancel) -> Result<Option<Decision>, Rejection> {
    if let Some(seq) = end::seen(head, dedupe(cancel.author)) {
        return Ok(Some(end::seen_before(head, seq)));
    }
    check_reason(&cancel.reason)?;
    if head.system {
        return Err(invalid("a system session has no end; name a session of a workflow"));
    }
    if head.status.is_terminal() {
        return Err(end::over(head));
    }
    Ok(None)
}

fn check_reason(reason: &str) -> Result<(), Rejection> {
    let bytes = reason.len();
    if bytes <= REASON_BYTES_MAX {
        return Ok(());
    }
    Err(invalid(format!("the reason has {bytes} bytes; use at most {REASON_BYTES_MAX}")))
}

fn cancelled(cancel: &Cancel, terminated: bool, unknown: Vec<StepKey>) -> Body {
    let (reason, by) = (cancel.reason.clone(), cancel.by.clone());
    Body::SessionCancelled(SessionCancelled { reason, by, terminated, unknown })
}

fn keys<'a>(intents: impl Iterator<Item = &'a OpenIntent>) -> Vec<StepKey> {
    intents.map(|intent| intent.step_key.clone()).collect()
}

const fn dedupe(author: Author) -> Option<DedupeId> {
    match author {
        Author::Client(id) | Author::Operator(id) => id,
        Author::Worker(_) | Author::Driver => None,
    }
}

/// The author without its dedupe id, which only one event of a request may carry.
const fn unnamed(author: Author) -> Author {
    match author {
        Author::Client(_) => Author::Client(None),
        Author::Operator(_) => Author::Operator(None),
        Author::Worker(_) | Author::Driver => author,
    }
}
