//! What a run sends about its session: appends, and the taking and giving back of its lease.

use std::sync::Arc;

use bytes::Bytes;
use cellaflow_proto::v1;

use super::bodies;
use super::budget;
use super::enums;
use super::fields::{self, Field};
use super::limits::{self, Length};
use super::payload::{Fits, Intake};
use super::tree;
use super::waits;
use crate::graph::budget::Raise;
use crate::graph::command::{Append, Command, Evidence, Op, Rejection, Resolve};
use crate::graph::event::{After, Resolution};
use crate::graph::ids::{Epoch, Seq, SessionId};

/// A command with the bytes that are no payload of an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Converted {
    /// The command.
    pub command: Command,
    /// Bytes of a `Command::Evidence`.
    pub evidence: Option<Bytes>,
}

/// A request to bind to a session; the caller of the parser adds who asks and whether the holder lives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attach {
    /// Session.
    pub session: SessionId,
    /// Epoch held before a lost connection.
    pub held: Option<Epoch>,
    /// First event wanted.
    pub from: Seq,
    /// Version the worker would run.
    pub version: Arc<str>,
}

/// Reads an append of the channel.
///
/// # Errors
/// `invalid_argument` (V2).
pub fn to_append(append: v1::Append, intake: &mut Intake<'_>) -> Result<Converted, Rejection> {
    let session = fields::session_id(&append.session_id)?;
    let epoch = fields::epoch(Field("", "epoch"), append.epoch)?;
    let op = match Field("", "op").set(append.op)? {
        v1::append::Op::ZoneEvidence(evidence) => return zone_evidence(session, epoch, evidence),
        v1::append::Op::StepCompleted(step) => Op::StepCompleted(bodies::step_completed(step, intake)?),
        v1::append::Op::StepFailed(step) => Op::StepFailed(bodies::step_failed(step, intake)?),
        v1::append::Op::StepHeartbeat(beat) => bodies::step_heartbeat(beat, intake)?,
        v1::append::Op::GuardIntent(intent) => bodies::guard_intent(intent, intake)?,
        v1::append::Op::GuardUnknown(unknown) => bodies::guard_unknown(unknown, intake)?,
        v1::append::Op::GuardReconciliation(found) => bodies::guard_finding(found, intake)?,
        v1::append::Op::ZoneEntered(zone) => bodies::zone_entered(zone)?,
        v1::append::Op::ZoneCommitted(zone) => Op::ZoneCommitted(bodies::zone_committed(zone, intake)?),
        v1::append::Op::ZoneFailed(zone) => Op::ZoneFailed(bodies::zone_failed(zone, intake)?),
        v1::append::Op::ZoneRolledBack(zone) => bodies::zone_rolled_back(zone)?,
        v1::append::Op::SessionCompleted(end) => Op::Complete {
            output: intake.required(Field("session_completed", "output"), end.output, Fits::Value)?,
        },
        v1::append::Op::SessionFailed(end) => Op::Fail {
            failure: intake.required(Field("session_failed", "failure"), end.failure, Fits::Failure)?,
        },
        v1::append::Op::TimerStarted(timer) => waits::timer_started(timer)?,
        v1::append::Op::SignalAwaited(wait) => waits::signal_awaited(wait)?,
        v1::append::Op::ApprovalRequested(request) => waits::approval_requested(request, intake)?,
        v1::append::Op::ChildSpawned(child) => tree::spawn_child(child, intake)?,
        v1::append::Op::ChildCancelRequested(request) => tree::cancel_child(request)?,
        v1::append::Op::WaitDropped(dropped) => waits::wait_dropped(dropped)?,
        v1::append::Op::BudgetReserved(reserved) => budget::reserved(reserved)?,
        v1::append::Op::BudgetReleased(released) => budget::released(released)?,
        v1::append::Op::SessionPaused(pause) => bodies::session_paused(pause, intake)?,
        v1::append::Op::SessionContinued(end) => Op::Continue(tree::continue_as(end, intake)?),
        v1::append::Op::SessionCancelled(end) => tree::cancelled(end)?,
    };
    let (state, conversation) = (Field("", "state_delta"), Field("", "conversation_delta"));
    let append = Append {
        session,
        epoch,
        after: append.after.map(after),
        state_delta: intake.optional(state, append.state_delta, Fits::StateDelta)?,
        conversation_delta: intake.optional(
            conversation,
            append.conversation_delta,
            Fits::ConversationDelta,
        )?,
        op,
    };
    Ok(Converted { command: Command::Append(append), evidence: None })
}

/// Reads the commit of one step by a thin client.
///
/// # Errors
/// `invalid_argument` (V2).
pub fn commit_step(request: v1::CommitStepRequest, intake: &mut Intake<'_>) -> Result<Command, Rejection> {
    let append = Append {
        session: fields::session_id(&request.session_id)?,
        epoch: fields::epoch(Field("", "epoch"), request.epoch)?,
        after: request.after.map(after),
        state_delta: intake.optional(Field("", "state_delta"), request.state_delta, Fits::StateDelta)?,
        conversation_delta: None,
        op: match Field("", "outcome").set(request.outcome)? {
            v1::commit_step_request::Outcome::Completed(step) => {
                bodies::step_completed(step, intake).map(Op::StepCompleted)?
            }
            v1::commit_step_request::Outcome::Failed(step) => {
                bodies::step_failed(step, intake).map(Op::StepFailed)?
            }
        },
    };
    Ok(Command::Append(append))
}

fn zone_evidence(session: SessionId, epoch: Epoch, sent: v1::ZoneEvidence) -> Result<Converted, Rejection> {
    const AT: &str = "zone_evidence";
    fields::bounded(Field(AT, "data"), &sent.data, Length { min: 1, max: limits::EVIDENCE_BYTES_MAX })?;
    let evidence = Evidence {
        session,
        epoch,
        zone_key: fields::step_key(Field(AT, "zone_key"), sent.zone_key)?,
        attempt: fields::attempt(Field(AT, "attempt"), sent.attempt)?,
        offset: fields::at_most(Field(AT, "offset"), sent.offset, limits::EVIDENCE_OFFSET_MAX)?,
        bytes: sent.data.len() as u64,
    };
    Ok(Converted { command: Command::Evidence(evidence), evidence: Some(sent.data) })
}

/// Reads a request to bind to a session.
///
/// # Errors
/// `invalid_argument` (V2).
pub fn attach(request: v1::Attach) -> Result<Attach, Rejection> {
    Ok(Attach {
        session: fields::session_id(&request.session_id)?,
        held: (request.epoch != 0).then_some(Epoch(request.epoch)),
        from: fields::from_seq(request.from_seq),
        version: fields::version(request.version)?,
    })
}

/// Reads the giving back of a lease.
///
/// # Errors
/// `invalid_argument` (V2).
pub fn release(request: v1::Release) -> Result<Command, Rejection> {
    let reason = enums::release_reason_from_wire(request.reason)
        .ok_or_else(|| Field("", "reason").must("be a ReleaseReason of this version"))?;
    Ok(Command::Release {
        session: fields::session_id(&request.session_id)?,
        epoch: fields::epoch(Field("", "epoch"), request.epoch)?,
        reason,
        seen: Seq(request.seen_seq),
    })
}

/// Reads an operator's raise of a budget; `by` is the name of the token.
///
/// # Errors
/// `invalid_argument` (V2).
pub fn raise_budget(request: &v1::RaiseBudgetRequest, by: Arc<str>) -> Result<Command, Rejection> {
    Ok(Command::RaiseBudget(Raise {
        session: fields::session_id(&request.session_id)?,
        limits: budget::limits(request.limits.as_ref())?,
        by,
        dedupe: fields::dedupe_id(&request.dedupe_id)?,
    }))
}

/// Reads an operator's resolution of a guarded step; `by` is the name of the token.
///
/// # Errors
/// `invalid_argument` (V2).
pub fn resolve_step(
    request: v1::ResolveStepRequest,
    by: Arc<str>,
    intake: &mut Intake<'_>,
) -> Result<Command, Rejection> {
    let resolution = match Field("", "resolution").set(request.resolution)? {
        v1::resolve_step_request::Resolution::Output(output) => {
            Resolution::Output(intake.take(Field("", "output"), output, Fits::Value)?)
        }
        v1::resolve_step_request::Resolution::Failure(failure) => {
            Resolution::Failure(Some(intake.take(Field("", "failure"), failure, Fits::Failure)?))
        }
        v1::resolve_step_request::Resolution::NotApplied(true) => Resolution::NotApplied(None),
        v1::resolve_step_request::Resolution::NotApplied(false) => {
            return Err(Field("", "not_applied").must("be true where it is set"));
        }
    };
    Ok(Command::Resolve(Resolve {
        session: fields::session_id(&request.session_id)?,
        step_key: fields::step_key(Field("", "step_key"), request.step_key)?,
        resolution,
        by,
        dedupe: fields::dedupe_id(&request.dedupe_id)?,
        resume: request.resume,
    }))
}

const fn after(seen: v1::After) -> After {
    After { seq: Seq(seen.seq), requests: seen.requests }
}
