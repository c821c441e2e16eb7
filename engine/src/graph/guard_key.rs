//! Idempotency keys across steps and sessions of a namespace: an effect happens once, whoever asks for it.
//!
//! Owns what another step or session gets that asks with a key that is in use, and when a key is free again. Never
//! copies an output (who submits the intent does, by value), never sees a key (its digest is keyed with the namespace's
//! salt).
//!
//! K1. The step that sent the last intent of a key owns it. Whoever else asks with the same input gets the output that
//!     the owner recorded, as a completion of its own that says where it is from.
//! K2. While the owner's outcome is open, others wait or are refused; nobody else calls.
//! K3. Another input is refused: a key names one effect with one input.
//! K4. The key passes to who asks next only if the effect certainly did not happen, or may be repeated: the owner's last
//!     attempt was not applied, or is to be made again. Its former owner is then one of the others.
//! K5. An owner that failed by policy or by a person's word, or that was ended with the outcome open, keeps its key:
//!     nobody knows whether the effect happened.
//! K6. A key is kept from its first intent until its retention is over, counted from the end of its owner's session.
//! K7. What a key has recorded lies beside the lineages: it outlives the owner's events, which are archived sooner. An
//!     output of more than `KEPT_BYTES_MAX` is not kept twice: once its owner is archived, who asks is refused.
//! K8. A fork that performs nothing owns no key.
//! K9. A step keeps its key: what its attempts recorded is recorded under one key, or under none that anybody asks for.

use super::command::{Code, ForgetKeys, Rejection, Reply, Taken};
use super::decide::{Decision, Run, View, nothing};
use super::event::{Body, Event, PayloadRef, Resolution};
use super::guard::Sent;
use super::ids::{SessionId, StepKey, TimeMs};
use super::index::IndexChange;
use super::session::{GuardOutcome, GuardRow, Head, StepState};

/// Largest output that is kept beside the lineage of its session, in bytes (K7).
pub const KEPT_BYTES_MAX: u64 = 256 * 1024;

/// When to ask again for a key that is in flight elsewhere, in milliseconds.
const RETRY_MS: u64 = 250;
/// When to ask again for an output that has just been recorded, in milliseconds.
const COPY_RETRY_MS: u64 = 10;

/// Judges an intent by what its key has recorded; `Some`: the output that stands for the effect.
pub(super) fn check<'a>(
    run: &Run<'_>,
    view: &impl View,
    sent: &Sent<'a>,
) -> Result<Option<&'a Taken>, Rejection> {
    if sent.key.former.is_some_and(|former| former != sent.key.digest) {
        let message =
            "earlier attempts of this step used another idempotency key; make the key of its input alone";
        return Err(Rejection::new(Code::StepConflict, message)); // K9
    }
    let Some(row) = view.guard(&sent.key.digest) else { return Ok(None) };
    if row.input_digest != sent.key.input_digest {
        let message =
            "this idempotency key was used with another input; a key names one effect with one input";
        return Err(Rejection::new(Code::GuardInputConflict, message)); // K3
    }
    if row.session == run.head.session && row.step_key_hash == sent.key.step_key_hash {
        return Ok(None);
    }
    let Some(outcome) = view.guard_outcome(&row) else { return Err(in_use(&row)) };
    // A session that is not there has been archived, and so has ended.
    let ended = view.head(row.session).is_none_or(|owner| owner.status.is_terminal());
    judge(&row, &outcome, ended, sent)
}

fn judge<'a>(
    row: &GuardRow,
    outcome: &GuardOutcome,
    ended: bool,
    sent: &Sent<'a>,
) -> Result<Option<&'a Taken>, Rejection> {
    match outcome.state {
        StepState::Completed => match sent.taken {
            Some(taken) if taken.from == (row.session, outcome.seq) => Ok(Some(taken)), // K1
            None if sent.key.output_gone => Err(gone(row)),                             // K7
            // It was recorded while this intent was on its way; the next one brings a copy.
            Some(_) | None => Err(in_flight(sent, COPY_RETRY_MS)),
        },
        StepState::Retryable => Ok(None),                     // K4
        StepState::Failed if outcome.not_applied => Ok(None), // K4
        StepState::Failed => Err(in_use(row)),                // K5
        StepState::Open if ended => Err(in_use(row)),         // K5
        StepState::Open => Err(in_flight(sent, RETRY_MS)),    // K2
    }
}

fn in_flight(sent: &Sent<'_>, retry_ms: u64) -> Rejection {
    let name = &sent.intent.name;
    if sent.key.refuse_in_flight {
        let message = format!(
            "another step or session is carrying out {name} with this idempotency key; ask again when it has ended"
        );
        return Rejection::new(Code::InProgress, message);
    }
    let message =
        format!("another step or session is carrying out {name} with this idempotency key; wait for it");
    Rejection::new(Code::GuardInFlight, message).retry_after(retry_ms)
}

fn in_use(row: &GuardRow) -> Rejection {
    let message = format!(
        "session {} used this idempotency key and nobody knows whether the effect happened; find out, then use another key",
        row.session
    );
    Rejection::new(Code::GuardKeyInUse, message)
}

fn gone(row: &GuardRow) -> Rejection {
    let message = format!(
        "session {} recorded more than {KEPT_BYTES_MAX} bytes under this idempotency key and has been archived; restore it, or use another key",
        row.session
    );
    Rejection::new(Code::GuardKeyInUse, message)
}

/// Drops what an ended session's keys have recorded, once their retention is over (K6).
pub(super) fn forget(view: &impl View, forget: &ForgetKeys, now: TimeMs) -> Result<Decision, Rejection> {
    let owner = view.head(forget.session);
    if owner.is_some_and(|owner| !owner.status.is_terminal()) {
        let message = "the session has not ended; its idempotency keys are kept";
        return Err(Rejection::new(Code::InvalidArgument, message));
    }
    if now < forget.due {
        let message = "the retention of the session's idempotency keys is not over; ask again then";
        let wait_ms = forget.due.0.saturating_sub(now.0);
        return Err(Rejection::new(Code::GuardNotDue, message).retry_after(wait_ms));
    }
    Ok(nothing(forget.session, Reply::Done { entry: None }))
}

/// True if a key that was owned by the step still is: it has not passed on (K4).
#[must_use]
pub fn still_owns(row: Option<&GuardRow>, owner: &(SessionId, [u8; 32])) -> bool {
    row.is_some_and(|row| (row.session, row.step_key_hash) == *owner)
}

/// Rows that an event changes beside its session's (K7).
pub(super) fn changes(before: Option<&Head>, event: &Event, after: &Head, changes: &mut Vec<IndexChange>) {
    if let Some(change) = outcome(event, after) {
        changes.push(change);
    }
    let ended = before.is_some_and(|before| !before.status.is_terminal()) && after.status.is_terminal();
    if ended && after.owns_keys {
        changes.push(IndexChange::KeysEnded { at: event.time, seq: event.seq });
    }
}

/// What is known of a guarded step from this event on.
fn outcome(event: &Event, after: &Head) -> Option<IndexChange> {
    if after.stubs_effects() {
        return None; // K8
    }
    let put = |step_key: &StepKey, state, not_applied, output: Option<&PayloadRef>| {
        let kept = output.is_some_and(|output| output.size <= KEPT_BYTES_MAX); // K7
        let outcome = GuardOutcome { seq: event.seq, state, not_applied };
        let output = output.filter(|_| kept).cloned();
        Some(IndexChange::GuardOutcome { step_key: step_key.clone(), outcome, output })
    };
    match &event.body {
        Body::GuardIntent(intent) => put(&intent.step_key, StepState::Open, false, None),
        Body::StepCompleted(done) if done.guarded && done.deduplicated_from.is_none() => {
            put(&done.step_key, StepState::Completed, false, Some(&done.output))
        }
        // A guarded step fails only after it was not applied (`guard::may_fail`).
        Body::StepFailed(failed) if failed.guarded => put(&failed.step_key, StepState::Failed, true, None),
        Body::GuardResolved(resolved) => match &resolved.resolution {
            Resolution::Output(output) => put(&resolved.step_key, StepState::Completed, false, Some(output)),
            Resolution::Failure(_) => put(&resolved.step_key, StepState::Failed, false, None),
            Resolution::NotApplied(_) | Resolution::Retry => {
                put(&resolved.step_key, StepState::Retryable, false, None)
            }
        },
        _ => None,
    }
}

/// The output of a guarded effect, in the event that recorded it.
#[must_use]
pub fn output_of(body: &Body) -> Option<&PayloadRef> {
    match body {
        Body::StepCompleted(done) if done.guarded => Some(&done.output),
        Body::GuardResolved(resolved) => match &resolved.resolution {
            Resolution::Output(output) => Some(output),
            Resolution::Failure(_) | Resolution::NotApplied(_) | Resolution::Retry => None,
        },
        _ => None,
    }
}
