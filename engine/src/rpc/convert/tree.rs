//! What sessions say of one another: spawning, continuing, cancelling. Parsed here and written here.

use std::sync::Arc;

use bytes::Bytes;
use cellaflow_proto::v1;

use super::event::Outgoing;
use super::fields::{self, Field};
use super::limits;
use super::payload::{Fits, Intake};
use crate::graph::command::{Op, Rejection};
use crate::graph::event::{ChildEnd, ChildEnded, ChildSpawned, SessionCancelled, SessionContinued};
use crate::graph::ids::SessionId;
use crate::ledger::ReadError;

/// Reads the end of a session that is continued; whoever submits it names the successor.
pub(super) fn continue_as(
    end: v1::SessionContinued,
    intake: &mut Intake<'_>,
) -> Result<SessionContinued, Rejection> {
    const AT: &str = "session_continued";
    if !end.successor_id.is_empty() {
        return Err(Field(AT, "successor_id").must("be empty: the engine mints it"));
    }
    Ok(SessionContinued {
        successor: SessionId::default(),
        version: optional_version(Field(AT, "version"), end.version)?,
        input: intake.required(Field(AT, "input"), end.input, Fits::Value)?,
        state: intake.optional(Field(AT, "state"), end.state, Fits::StateDelta)?,
        conversation: intake.optional(
            Field(AT, "conversation"),
            end.conversation,
            Fits::ConversationDelta,
        )?,
    })
}

/// Empty: the version of the session itself.
fn optional_version(field: Field, version: String) -> Result<Arc<str>, Rejection> {
    if version.is_empty() { Ok("".into()) } else { fields::name(field, version, limits::VERSION) }
}

/// Reads the end of a session that has cleaned up after a request to cancel it.
pub(super) fn cancelled(end: v1::SessionCancelled) -> Result<Op, Rejection> {
    const AT: &str = "session_cancelled";
    if !end.by.is_empty() || end.terminated || !end.unknown_step_keys.is_empty() {
        return Err(Field(AT, "reason").must("be all that is set: the engine knows the rest"));
    }
    Ok(Op::Cancelled { reason: fields::text(Field(AT, "reason"), end.reason, limits::REASON)? })
}

pub(super) fn session_cancelled(cancelled: &SessionCancelled) -> v1::SessionCancelled {
    v1::SessionCancelled {
        reason: cancelled.reason.to_string(),
        by: cancelled.by.to_string(),
        terminated: cancelled.terminated,
        unknown_step_keys: cancelled.unknown.iter().map(ToString::to_string).collect(),
    }
}

pub(super) fn session_continued(
    continued: &SessionContinued,
    out: &mut Outgoing<'_>,
) -> Result<v1::SessionContinued, ReadError> {
    Ok(v1::SessionContinued {
        successor_id: continued.successor.to_string(),
        input: out.required(&continued.input)?,
        version: continued.version.to_string(),
        state: out.optional(continued.state.as_ref())?,
        conversation: out.optional(continued.conversation.as_ref())?,
    })
}

/// Reads a spawn; whoever submits it names the child.
pub(super) fn spawn_child(child: v1::ChildSpawned, intake: &mut Intake<'_>) -> Result<Op, Rejection> {
    const AT: &str = "child_spawned";
    if !child.child_id.is_empty() {
        return Err(Field(AT, "child_id").must("be empty: the engine mints it"));
    }
    Ok(Op::SpawnChild(ChildSpawned {
        step_key: fields::step_key(Field(AT, "step_key"), child.step_key)?,
        name: fields::name(Field(AT, "name"), child.name, limits::NAME)?,
        child: SessionId::default(),
        workflow: fields::name(Field(AT, "workflow"), child.workflow, limits::WORKFLOW)?,
        version: fields::name(Field(AT, "version"), child.version, limits::VERSION)?,
        input: intake.required(Field(AT, "input"), child.input, Fits::Value)?,
        input_digest: fields::optional_digest(Field(AT, "input_digest"), &child.input_digest)?,
        abandoned: child.abandoned,
    }))
}

/// Reads a request to cancel a child.
pub(super) fn cancel_child(request: v1::ChildCancelRequested) -> Result<Op, Rejection> {
    const AT: &str = "child_cancel_requested";
    Ok(Op::CancelChild {
        step_key: fields::step_key(Field(AT, "step_key"), request.step_key)?,
        reason: fields::text(Field(AT, "reason"), request.reason, limits::REASON)?,
    })
}

pub(super) fn child_spawned(
    child: &ChildSpawned,
    out: &mut Outgoing<'_>,
) -> Result<v1::ChildSpawned, ReadError> {
    Ok(v1::ChildSpawned {
        step_key: child.step_key.to_string(),
        name: child.name.to_string(),
        child_id: child.child.to_string(),
        workflow: child.workflow.to_string(),
        version: child.version.to_string(),
        input: out.required(&child.input)?,
        abandoned: child.abandoned,
        input_digest: child.input_digest.map(|digest| Bytes::copy_from_slice(&digest.0)).unwrap_or_default(),
    })
}

pub(super) fn child_ended(ended: &ChildEnded, out: &mut Outgoing<'_>) -> Result<v1::ChildEnded, ReadError> {
    let (status, output, failure, reason) = match &ended.end {
        ChildEnd::Completed(output) => (v1::SessionStatus::Completed, Some(output), None, ""),
        ChildEnd::Failed(failure) => (v1::SessionStatus::Failed, None, Some(failure), ""),
        ChildEnd::Cancelled(reason) => (v1::SessionStatus::Cancelled, None, None, &**reason),
    };
    Ok(v1::ChildEnded {
        step_key: ended.step_key.to_string(),
        child_id: ended.child.to_string(),
        status: status.into(),
        output: out.optional(output)?,
        failure: out.optional(failure)?,
        ended_id: ended.ended.to_string(),
        reason: reason.to_owned(),
    })
}
