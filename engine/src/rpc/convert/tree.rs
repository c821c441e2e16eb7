//! What sessions say of one another: continuing, cancelling. Parsed here and written here.

use std::sync::Arc;

use cellaflow_proto::v1;

use super::event::Outgoing;
use super::fields::{self, Field};
use super::limits;
use super::payload::{Fits, Intake};
use crate::graph::command::{Op, Rejection};
use crate::graph::event::{SessionCancelled, SessionContinued};
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
