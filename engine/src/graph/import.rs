//! Imported: a session that was run elsewhere and has ended is taken in whole, with the times that were recorded there.
//!
//! I1. It comes in as one decision: there is never a part of it.
//! I2. Idempotent by its key: one that names a session appends nothing (K1), and another input is refused (K2).
//! I3. Times are those recorded, except that they never go back and are never later than now (D4).
//! I4. It is nobody's run: no lease, no worker's event, nothing open. A step key names one outcome.

use std::collections::HashSet;

use super::command::{Import, ImportedStep, Rejection, Reply};
use super::decide::{Decision, View, check_length, conflict, invalid};
use super::draft::Draft;
use super::event::Body;
use super::ids::TimeMs;
use super::session::{NAME_BYTES_MAX, STEP_KEY_BYTES_MAX};
use super::start;

/// Most steps of one import.
pub const STEPS_MAX: usize = 10_000;

/// Takes a session in, or finds the one its key names.
pub(super) fn import(view: &impl View, import: &Import, now: TimeMs) -> Result<Decision, Rejection> {
    if import.start.key.is_none() {
        return Err(invalid("an import needs a key: it is what makes it idempotent"));
    }
    check_steps(&import.steps)?;
    let decision = start::start(view, &import.start, import.started.min(now))?;
    if decision.events.is_empty() {
        return Ok(decision); // I2
    }
    let mut draft = Draft::going_on(decision.session, decision.events);
    for step in &import.steps {
        draft.at(step.time.min(now)); // I3
        draft.push_imported(step.conversation_delta.clone(), Body::StepCompleted(step.done.clone()));
    }
    draft.at(import.ended.min(now));
    let end = Body::SessionCompleted { output: import.output.clone() };
    draft.push_imported(import.conversation_delta.clone(), end);
    Ok(draft.answer(Reply::Bound { created: true, epoch: None }))
}

fn check_steps(steps: &[ImportedStep]) -> Result<(), Rejection> {
    if steps.len() > STEPS_MAX {
        let message = format!("the import has {} steps and may have {STEPS_MAX}: split it", steps.len());
        return Err(invalid(message));
    }
    let mut keys = HashSet::with_capacity(steps.len());
    for ImportedStep { done, .. } in steps {
        check_length("step key", &done.step_key, STEP_KEY_BYTES_MAX)?;
        check_length("name", &done.name, NAME_BYTES_MAX)?;
        if done.guarded || done.deduplicated_from.is_some() || done.attempt != 1 {
            return Err(invalid("an imported step is unguarded, and its attempt is the first"));
        }
        if !keys.insert(&done.step_key) {
            return Err(conflict(format!("two steps have the key {}; number them", done.step_key))); // I4
        }
    }
    Ok(())
}
