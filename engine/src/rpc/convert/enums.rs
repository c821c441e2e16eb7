//! Enumerations, both ways. Wire numbers that are unknown or "unspecified" are `None`: the field's parser refuses them.

use cellaflow_proto::v1;

use crate::graph::event::{
    ApprovalDecision, Author, Format, GuardPolicy, PauseReason, ReleaseReason, ResourceMode, Role,
    RollbackReason, UnknownReason,
};
use crate::graph::session::Status;

/// Writes the two directions of an enumeration whose members correspond one to one.
macro_rules! one_to_one {
    ($from:ident, $to:ident, $graph:ty, $wire:ty, $($member:ident),+) => {
        /// Reads it; `None` for a number that names no member.
        #[must_use]
        pub fn $from(number: i32) -> Option<$graph> {
            match <$wire>::try_from(number) {
                Ok(<$wire>::Unspecified) | Err(_) => None,
                $( Ok(<$wire>::$member) => Some(<$graph>::$member), )+
            }
        }

        /// Writes it.
        #[must_use]
        pub const fn $to(value: $graph) -> $wire {
            match value {
                $( <$graph>::$member => <$wire>::$member, )+
            }
        }
    };
}

one_to_one!(
    format_from_wire,
    format_to_wire,
    Format,
    v1::PayloadFormat,
    Value,
    Json,
    Bytes,
    Failure,
    LlmRequest,
    LlmResponse,
    StateDelta,
    ConversationDelta,
    ZoneRecord,
    Context
);
one_to_one!(
    pause_reason_from_wire,
    pause_reason_to_wire,
    PauseReason,
    v1::PauseReason,
    Requested,
    EffectUnknown,
    Nondeterminism,
    RetriesExhausted,
    Budget
);
one_to_one!(
    resource_mode_from_wire,
    resource_mode_to_wire,
    ResourceMode,
    v1::ResourceMode,
    Read,
    Write,
    Delete,
    Run
);
one_to_one!(
    unknown_reason_from_wire,
    unknown_reason_to_wire,
    UnknownReason,
    v1::UnknownReason,
    Threw,
    TimedOut,
    Aborted,
    NoOutcome,
    GraceOver
);
one_to_one!(
    rollback_reason_from_wire,
    rollback_reason_to_wire,
    RollbackReason,
    v1::RollbackReason,
    Takeover,
    Abort
);
one_to_one!(
    decision_from_wire,
    decision_to_wire,
    ApprovalDecision,
    v1::ApprovalDecision,
    Approved,
    Rejected,
    Expired
);
one_to_one!(role_from_wire, role_to_wire, Role, v1::Role, Worker, Client, Compactor, Viewer, Admin);

/// Reads a guard policy; unspecified is `pause`.
pub(super) fn guard_policy_from_wire(number: i32) -> Option<GuardPolicy> {
    match v1::GuardPolicy::try_from(number) {
        Ok(v1::GuardPolicy::Unspecified | v1::GuardPolicy::Pause) => Some(GuardPolicy::Pause),
        Ok(v1::GuardPolicy::Fail) => Some(GuardPolicy::Fail),
        Ok(v1::GuardPolicy::Retry) => Some(GuardPolicy::Retry),
        Ok(v1::GuardPolicy::Reconcile) => Some(GuardPolicy::Reconcile),
        Err(_) => None,
    }
}

pub(super) const fn guard_policy_to_wire(policy: GuardPolicy) -> v1::GuardPolicy {
    match policy {
        GuardPolicy::Pause => v1::GuardPolicy::Pause,
        GuardPolicy::Fail => v1::GuardPolicy::Fail,
        GuardPolicy::Retry => v1::GuardPolicy::Retry,
        GuardPolicy::Reconcile => v1::GuardPolicy::Reconcile,
    }
}

/// Reads why a lease is given back; unspecified is a reason of its own.
pub(super) fn release_reason_from_wire(number: i32) -> Option<ReleaseReason> {
    match v1::ReleaseReason::try_from(number) {
        Ok(v1::ReleaseReason::Unspecified) => Some(ReleaseReason::Unsaid),
        Ok(v1::ReleaseReason::Shutdown) => Some(ReleaseReason::Shutdown),
        Ok(v1::ReleaseReason::Suspended) => Some(ReleaseReason::Suspended),
        Ok(v1::ReleaseReason::Unable) => Some(ReleaseReason::Unable),
        Ok(v1::ReleaseReason::Waiting) => Some(ReleaseReason::Waiting),
        Err(_) => None,
    }
}

pub(super) const fn release_reason_to_wire(reason: ReleaseReason) -> v1::ReleaseReason {
    match reason {
        ReleaseReason::Unsaid => v1::ReleaseReason::Unspecified,
        ReleaseReason::Shutdown => v1::ReleaseReason::Shutdown,
        ReleaseReason::Suspended => v1::ReleaseReason::Suspended,
        ReleaseReason::Unable => v1::ReleaseReason::Unable,
        ReleaseReason::Waiting => v1::ReleaseReason::Waiting,
    }
}

pub(super) const fn author_to_wire(author: Author) -> v1::Author {
    match author {
        Author::Worker(_) => v1::Author::Worker,
        Author::Client(_) => v1::Author::Client,
        Author::Driver => v1::Author::Driver,
        Author::Operator(_) => v1::Author::Operator,
    }
}

/// Writes a session's status.
#[must_use]
pub const fn status_to_wire(status: &Status) -> v1::SessionStatus {
    match status {
        Status::Pending => v1::SessionStatus::Pending,
        Status::Running => v1::SessionStatus::Running,
        Status::Waiting => v1::SessionStatus::Waiting,
        Status::Paused { .. } => v1::SessionStatus::Paused,
        Status::Completed => v1::SessionStatus::Completed,
        Status::Failed => v1::SessionStatus::Failed,
        Status::Cancelled => v1::SessionStatus::Cancelled,
    }
}
