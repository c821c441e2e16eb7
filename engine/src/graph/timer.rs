//! Timers: a run sleeps until a ledger time, from milliseconds to years, without a worker.
//!
//! Owns starting and firing. Never reads a clock: the driver says when the time has come, and is not believed early.
//!
//! M1. A timer's due time is fixed when it is started, in ledger time: a restart or another worker does not move it.
//! M2. It fires at most once, and never before its due time.
//! M3. A due time in the past fires at once.

use std::sync::Arc;

use super::command::{Fires, Rejection};
use super::decide::{Decision, Run};
use super::draft::ledger_time;
use super::event::Body;
use super::ids::{StepKey, TimeMs};
use super::session::{OpenWait, WaitKind};
use super::wait::{self, Asked};

/// The run starts a timer.
pub(super) fn started(
    run: &Run<'_>,
    key: &StepKey,
    name: &Arc<str>,
    fires: Fires,
) -> Result<Decision, Rejection> {
    if let Some(answer) = wait::opened_before(run, &Asked { key, name, kind: WaitKind::Timer })? {
        return Ok(answer);
    }
    let due = due(ledger_time(run.head, run.now), fires)?; // M1
    let mut draft = run.draft();
    let body = Body::TimerStarted { step_key: key.clone(), name: name.clone(), due };
    let seq = draft.push_append(run.append, body);
    Ok(draft.appended(seq))
}

fn due(now: TimeMs, fires: Fires) -> Result<TimeMs, Rejection> {
    let at = match fires {
        Fires::After(ms) => now.plus(ms),
        Fires::At(at) => at, // M3
    };
    let ms = at.0.saturating_sub(now.0);
    if ms > wait::WAIT_MS_MAX { Err(wait::too_long(ms)) } else { Ok(at) }
}

/// What is journaled when a timer's time has come (M2: it closes the wait).
pub(super) fn fired(wait: &OpenWait) -> Body {
    Body::TimerFired { step_key: wait.step_key.clone() }
}
