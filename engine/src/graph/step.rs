//! Replayable: a step has at most one outcome, recorded once, that every later run is given back.
//!
//! Owns the outcomes of unguarded steps; those of guarded ones are handed to `guard`. Never sees inputs or outputs.
//!
//! P1. A step that has an outcome gets no other one: the same commit re-sent is a duplicate, another one a conflict.
//! P2. Attempts are counted from 1 without gaps, over runs and workers.
//! P3. An outcome is judged by its own step alone: what other steps do or did never refuses it.
//! P4. A pause stops nothing that has begun.

use super::command::Rejection;
use super::decide::{Decision, Run, conflict, invalid};
use super::event::{Body, StepCompleted, StepFailed};
use super::guard;

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

fn check_unguarded(run: &Run<'_>, key: &str) -> Result<(), Rejection> {
    if run.head.intent(key).is_some() {
        return Err(conflict(format!("step {key} is guarded; commit its outcome as a guarded one")));
    }
    Ok(())
}
