//! Timers, signals and approvals: appended by runs, sent and decided by clients, read back by everybody.

use std::sync::Arc;

use bytes::Bytes;
use cellaflow_proto::v1;

use super::enums;
use super::fields::{self, Field};
use super::limits;
use super::payload::{Fits, Intake};
use crate::clock::rfc3339;
use crate::graph::command::{ApprovalAsked, Command, DecideApproval, Fires, Op, Rejection, Signal};
use crate::graph::ids::{SessionId, TimeMs};
use crate::graph::session::{OpenWait, WaitKind};

pub(super) fn timer_started(timer: v1::TimerStarted) -> Result<Op, Rejection> {
    const AT: &str = "timer_started";
    let fires = match (timer.due_ms, timer.delay_ms) {
        (0, delay_ms) => Fires::After(fields::at_most(Field(AT, "delay_ms"), delay_ms, limits::WAIT_MS_MAX)?),
        (due_ms, 0) => Fires::At(TimeMs(due_ms)),
        (_, _) => return Err(Field(AT, "delay_ms").must("be 0 where due_ms says when the timer fires")),
    };
    Ok(Op::TimerStarted {
        step_key: fields::step_key(Field(AT, "step_key"), timer.step_key)?,
        name: fields::name(Field(AT, "name"), timer.name, limits::NAME)?,
        fires,
    })
}

pub(super) fn signal_awaited(wait: v1::SignalAwaited) -> Result<Op, Rejection> {
    const AT: &str = "signal_awaited";
    engine_says(Field(AT, "due_ms"), wait.due_ms)?;
    Ok(Op::SignalAwaited {
        step_key: fields::step_key(Field(AT, "step_key"), wait.step_key)?,
        name: fields::name(Field(AT, "name"), wait.name, limits::NAME)?,
        timeout_ms: duration(Field(AT, "timeout_ms"), wait.timeout_ms)?,
    })
}

pub(super) fn approval_requested(
    request: v1::ApprovalRequested,
    intake: &mut Intake<'_>,
) -> Result<Op, Rejection> {
    const AT: &str = "approval_requested";
    engine_says(Field(AT, "due_ms"), request.due_ms)?;
    Ok(Op::ApprovalRequested(ApprovalAsked {
        step_key: fields::step_key(Field(AT, "step_key"), request.step_key)?,
        name: fields::name(Field(AT, "name"), request.name, limits::NAME)?,
        call: intake.required(Field(AT, "call"), request.call, Fits::Value)?,
        args_digest: fields::digest(Field(AT, "args_digest"), &request.args_digest)?,
        expires_in_ms: duration(Field(AT, "expires_in_ms"), request.expires_in_ms)?,
    }))
}

pub(super) fn wait_dropped(dropped: v1::WaitDropped) -> Result<Op, Rejection> {
    Ok(Op::WaitDropped { step_key: fields::step_key(Field("wait_dropped", "step_key"), dropped.step_key)? })
}

fn engine_says(field: Field, value: u64) -> Result<(), Rejection> {
    if value == 0 { Ok(()) } else { Err(field.must("be 0: the engine sets it")) }
}

/// Milliseconds; 0: without end.
fn duration(field: Field, ms: u64) -> Result<Option<u64>, Rejection> {
    let ms = fields::at_most(field, ms, limits::WAIT_MS_MAX)?;
    Ok((ms != 0).then_some(ms))
}

/// Reads a client's signal; `by` is the name of the token.
///
/// # Errors
/// `invalid_argument` (V2).
pub fn signal(
    session: SessionId,
    request: v1::SignalSessionRequest,
    by: Arc<str>,
    intake: &mut Intake<'_>,
) -> Result<Command, Rejection> {
    let id = fields::text(Field("", "signal_id"), request.signal_id, limits::SIGNAL_ID)?;
    Ok(Command::Signal(Signal {
        session,
        name: fields::name(Field("", "name"), request.name, limits::NAME)?,
        id: (!id.is_empty()).then_some(id),
        value: intake.required(Field("", "value"), request.value, Fits::Value)?,
        by,
    }))
}

/// Reads a decision of an approval; `by` is the name of the token.
///
/// # Errors
/// `invalid_argument` (V2).
pub fn decide_approval(
    session: SessionId,
    request: v1::DecideApprovalRequest,
    by: &str,
    intake: &mut Intake<'_>,
) -> Result<Command, Rejection> {
    let decision = enums::decision_from_wire(request.decision)
        .ok_or_else(|| Field("", "decision").must("be approved or rejected"))?;
    let of = fields::name(Field("", "on_behalf_of"), request.on_behalf_of, limits::ON_BEHALF_OF)?;
    let by = if of.is_empty() { by.into() } else { format!("{by} (on behalf of {of})").into() };
    Ok(Command::DecideApproval(DecideApproval {
        session,
        step_key: fields::step_key(Field("", "step_key"), request.step_key)?,
        decision,
        comment: intake.optional(Field("", "comment"), request.comment, Fits::Value)?,
        args_digest: fields::digest(Field("", "args_digest"), &request.args_digest)?,
        by,
        dedupe: fields::dedupe_id(&request.dedupe_id)?,
    }))
}

/// Writes an open wait.
pub(super) fn open_wait(wait: &OpenWait) -> v1::Wait {
    let (kind, child_id, args_digest) = match wait.kind {
        WaitKind::Timer => (v1::WaitKind::Timer, String::new(), Bytes::new()),
        WaitKind::Signal => (v1::WaitKind::Signal, String::new(), Bytes::new()),
        WaitKind::Approval { args_digest } => {
            (v1::WaitKind::Approval, String::new(), Bytes::copy_from_slice(&args_digest.0))
        }
        WaitKind::Child { session, .. } => (v1::WaitKind::Child, session.to_string(), Bytes::new()),
    };
    v1::Wait {
        step_key: wait.step_key.to_string(),
        kind: kind.into(),
        name: wait.name.to_string(),
        seq: wait.seq.0,
        due_ms: due_ms(wait.due),
        child_id,
        args_digest,
    }
}

/// Says what a session waits for, in words: what will move it first, and how many other waits there are.
pub(super) fn in_words(waits: &[OpenWait]) -> String {
    let next = waits.iter().min_by_key(|wait| wait.due.map_or(u64::MAX, |due| due.0));
    let Some(wait) = next else { return String::new() };
    let what = match wait.kind {
        WaitKind::Timer => format!("timer {}", wait.name),
        WaitKind::Signal => format!("signal {}: `cellaflow sessions signal`", wait.name),
        WaitKind::Approval { .. } => format!("approval {}: `cellaflow approvals list`", wait.name),
        WaitKind::Child { session, .. } => format!("child {} ({session})", wait.name),
    };
    let until = wait.due.map(|due| format!(", until {}", rfc3339(due.0))).unwrap_or_default();
    match waits.len() - 1 {
        0 => format!("{what}{until}"),
        others => format!("{what}{until}; and {others} more"),
    }
}

pub(super) fn due_ms(due: Option<TimeMs>) -> u64 {
    due.map_or(0, |due| due.0)
}
