//! Replayable: a step has at most one outcome, recorded once, that every later run is given back.
//!
//! Owns the outcomes of unguarded steps; those of guarded ones are handed to `guard`. Never sees inputs or outputs.
//!
//! P1. A step that has an outcome gets no other one: the same commit re-sent is a duplicate, another one a conflict.
//! P2. Attempts are counted from 1 without gaps, over runs and workers.
//! P3. An outcome is judged by its own step alone: what other steps do or did never refuses it.
//! P4. A pause stops nothing that has begun.
//! P5. A heartbeat is no outcome: it changes nothing but what the next attempt starts from, and a late one is dropped.
//!     One that is sent again is appended again: nothing depends on how many there are.

use super::command::{Rejection, Reply};
use super::decide::{Decision, Run, conflict, invalid, nothing};
use super::event::{Body, PayloadRef, StepCompleted, StepFailed};
use super::guard;
use super::ids::StepKey;
use super::session::StepState;

/// Most bytes the details of one heartbeat may have.
pub const HEARTBEAT_BYTES_MAX: u64 = 64 * 1024;

/// A step completed.
pub(super) fn completed(run: &Run<'_>, step: &StepCompleted) -> Result<Decision, Rejection> {
    if step.deduplicated_from.is_some() {
        return Err(invalid("a run cannot say that an output was taken over; commit the output it has"));
    }
    if step.guarded {
        if let Some(answer) = guard::settled_otherwise(run)? {
            return Ok(answer);
        }
        guard::may_complete(run, &step.step_key, step.attempt)?;
    } else {
        check_unguarded(run, &step.step_key)?;
        run.next_attempt(&step.step_key, step.attempt, step.input_digest)?; // P1, P2
    }
    let mut draft = run.draft();
    let seq = draft.push_append(run.append, Body::StepCompleted(step.clone()));
    Ok(draft.appended(seq))
}

/// An attempt of a step failed.
pub(super) fn failed(run: &Run<'_>, step: &StepFailed) -> Result<Decision, Rejection> {
    if step.guarded {
        if let Some(answer) = guard::settled_otherwise(run)? {
            return Ok(answer);
        }
        guard::may_fail(run, step)?;
    } else {
        check_unguarded(run, &step.step_key)?;
        run.next_attempt(&step.step_key, step.attempt, step.input_digest)?; // P1, P2
    }
    let mut draft = run.draft();
    let seq = draft.push_append(run.append, Body::StepFailed(step.clone()));
    Ok(draft.appended(seq))
}

/// An attempt of an unguarded step says how far it is (P5).
pub(super) fn heartbeat(
    run: &Run<'_>,
    key: &StepKey,
    attempt: u32,
    details: &PayloadRef,
) -> Result<Decision, Rejection> {
    check_unguarded(run, key)?;
    if details.size > HEARTBEAT_BYTES_MAX {
        return Err(invalid(format!(
            "the details of a heartbeat have {} bytes; keep them under {HEARTBEAT_BYTES_MAX}",
            details.size
        )));
    }
    let over = match &run.row {
        None => false,
        Some(row) => row.state != StepState::Retryable || row.attempt >= attempt,
    };
    if over {
        return Ok(nothing(run.head.session, Reply::Done { entry: None }));
    }
    let body = Body::StepHeartbeat { step_key: key.clone(), attempt, details: details.clone() };
    let mut draft = run.draft();
    let seq = draft.push_append(run.append, body);
    Ok(draft.appended(seq))
}

fn check_unguarded(run: &Run<'_>, key: &str) -> Result<(), Rejection> {
    if run.head.intent(key).is_some() {
        return Err(conflict(format!("step {key} is guarded; commit its outcome as a guarded one")));
    }
    Ok(())
}
