//! Ends and pauses: a session ends once, and what is unknown is settled before.
//!
//! Owns completing, failing, pausing and resuming, and what every end waits for. Cancelling is `cancel`'s.
//!
//! E1. Terminal sessions accept no event; the same end re-sent by the run that ended it is a duplicate.
//! E2. An end waits for guarded attempts whose outcome is open; open zones are rolled back before it.
//! E3. A pause stops what is new, never what has begun; a session is paused once.
//! E4. Resuming is refused while an effect's outcome waits for a person, because the run could only pause again.
//! E5. A client's or operator's request that was carried out is not carried out again (dedupe id).

use super::command::{Code, Pause, Rejection, Reply, Resume};
use super::decide::{Decision, Run, invalid, nothing};
use super::draft::{Draft, ledger_time};
use super::event::{Author, Body, PauseReason, PayloadRef};
use super::ids::{DedupeId, Seq, StepKey, TimeMs};
use super::session::{Head, IntentState, OpenIntent, Status};
use super::{cancel, child, zone};

/// When to ask again to end a session whose effects are overdue, in milliseconds.
const RETRY_MS: u64 = 250;

/// The session completes.
pub(super) fn complete(run: &Run<'_>, output: &PayloadRef) -> Result<Decision, Rejection> {
    let output = output.clone();
    end(run, Body::SessionCompleted { output })
}

/// The session fails.
pub(super) fn fail(run: &Run<'_>, failure: &PayloadRef) -> Result<Decision, Rejection> {
    let failure = failure.clone();
    end(run, Body::SessionFailed { failure })
}

/// The run ends its session with `body`.
pub(super) fn end(run: &Run<'_>, body: Body) -> Result<Decision, Rejection> {
    run.unless_paused()?;
    cancel::unless_requested(run.head)?;
    check_settled(run.head, run.now, |intent| intent.state != IntentState::MayRetry)?; // E2
    child::check_ended(run.head)?; // H3
    let mut draft = run.draft();
    zone::roll_back_all(run.head, Author::Worker(run.append.epoch), &mut draft);
    let seq = draft.push_append(run.append, body);
    Ok(draft.appended(seq))
}

/// Refuses an end while guarded attempts are open that it has to wait for.
pub(super) fn check_settled(
    head: &Head,
    now: TimeMs,
    waits: impl Fn(&OpenIntent) -> bool,
) -> Result<(), Rejection> {
    let mut open = head.intents.iter().filter(|intent| waits(intent));
    let Some(first) = open.next() else {
        return Ok(());
    };
    let wait_ms = first.due.0.saturating_sub(ledger_time(head, now).0);
    let message = format!(
        "guarded step {} and {} others have no outcome yet; end the session when they have one",
        first.step_key,
        open.count()
    );
    Err(Rejection::new(Code::OpenIntents, message).retry_after(wait_ms.max(RETRY_MS)))
}

/// The run pauses its session.
pub(super) fn pause(
    run: &Run<'_>,
    reason: PauseReason,
    step_key: Option<&StepKey>,
    details: Option<&PayloadRef>,
) -> Result<Decision, Rejection> {
    if matches!(run.head.status, Status::Paused { .. }) {
        return Ok(run.duplicate(run.head.seq)); // E3
    }
    let mut draft = run.draft();
    let body = Body::SessionPaused { reason, step_key: step_key.cloned(), details: details.cloned() };
    let seq = draft.push_append(run.append, body);
    Ok(draft.appended(seq))
}

/// A client or operator resumes a session.
pub(super) fn resume(head: &Head, resume: &Resume, now: TimeMs) -> Result<Decision, Rejection> {
    let Resume { by, dedupe, retry, session: _ } = resume;
    if let Some(seq) = seen(head, *dedupe) {
        return Ok(seen_before(head, seq));
    }
    match &head.status {
        Status::Paused { .. } => {}
        Status::Completed | Status::Failed | Status::Cancelled => return Err(over(head)),
        Status::Pending | Status::Running | Status::Waiting => {
            let message = "the session is not paused; there is nothing to resume";
            return Err(Rejection::new(Code::SessionNotPaused, message));
        }
    }
    check_resolved(head)?;
    let mut draft = Draft::after(head, now);
    let body = Body::SessionResumed { by: by.clone(), retry: *retry };
    let seq = draft.push(Author::Operator(*dedupe), body);
    Ok(draft.appended(seq))
}

/// A client or operator pauses a session (E3).
pub(super) fn pause_on_request(head: &Head, pause: &Pause, now: TimeMs) -> Result<Decision, Rejection> {
    if let Some(seq) = seen(head, pause.dedupe) {
        return Ok(seen_before(head, seq));
    }
    if head.system {
        return Err(invalid("a system session is run by nobody; name a session of a workflow"));
    }
    match &head.status {
        Status::Completed | Status::Failed | Status::Cancelled => return Err(over(head)),
        Status::Paused { .. } => return Ok(seen_before(head, head.seq)),
        Status::Pending | Status::Running | Status::Waiting => {}
    }
    let mut draft = Draft::after(head, now);
    let body = Body::SessionPaused {
        reason: PauseReason::Requested,
        step_key: None,
        details: pause.details.clone(),
    };
    let seq = draft.push(Author::Operator(pause.dedupe), body);
    Ok(draft.appended(seq))
}

/// E4.
pub(super) fn check_resolved(head: &Head) -> Result<(), Rejection> {
    let Some(open) = head.intents.iter().find(|open| open.awaits_resolution()) else { return Ok(()) };
    let message = format!(
        "nobody knows whether attempt {} of step {} happened; say so with `cellaflow steps resolve`, then resume",
        open.attempt, open.step_key
    );
    Err(Rejection::new(Code::GuardUnresolved, message))
}

/// The event that a dedupe id became, if it is remembered (E5).
pub(super) fn seen(head: &Head, dedupe: Option<DedupeId>) -> Option<Seq> {
    let id = dedupe?;
    let mut known = head.dedupe.iter();
    known.find(|(known, _)| *known == id).map(|(_, seq)| *seq)
}

/// The answer to what was carried out before.
pub(super) fn seen_before(head: &Head, seq: Seq) -> Decision {
    let reply = Reply::Appended { seq, time: head.time, duplicate: true };
    nothing(head.session, reply)
}

/// E1.
pub(super) fn over(head: &Head) -> Rejection {
    let message = format!("session {} has ended; read its result instead", head.session);
    Rejection::new(Code::SessionEnded, message)
}
