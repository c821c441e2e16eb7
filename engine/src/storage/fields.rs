//! Fields of stored messages, read strictly. Owns the error that names a field; never guesses a value.

use std::sync::Arc;

use bytes::Bytes;
use cellaflow_proto::disk;
use prost::Message;

use crate::graph::event::{
    ApprovalDecision, Format, GuardPolicy, Labels, Parent, PauseReason, PayloadRef, ReleaseReason,
    ResourceMode, Role, RollbackReason, UnknownReason,
};
use crate::graph::ids::{Digest, Epoch, Seq, SessionId};
use crate::graph::session::{IntentState, StepState};

/// A stored message is not one that this version wrote or knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stored field {field} {problem}; run the version of the engine that wrote it, or restore a backup")]
pub struct Malformed {
    /// The field, as the disk package names it.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

pub(super) fn malformed(field: &'static str, problem: impl Into<String>) -> Malformed {
    Malformed { field, problem: problem.into() }
}

/// Decodes a message and makes sure that nothing in it was skipped as unknown.
pub(super) fn whole<M: Message + Default>(bytes: &Bytes, field: &'static str) -> Result<M, Malformed> {
    let message =
        M::decode(bytes.clone()).map_err(|error| malformed(field, format!("is damaged: {error}")))?;
    if message.encoded_len() != bytes.len() {
        return Err(malformed(field, "holds something that this version does not know"));
    }
    Ok(message)
}

/// A submessage that is always written.
pub(super) fn present<T>(value: Option<T>, field: &'static str) -> Result<T, Malformed> {
    value.ok_or_else(|| malformed(field, "is missing or of an unknown kind"))
}

/// Bytes of a fixed length.
pub(super) fn exact<const N: usize>(bytes: &Bytes, field: &'static str) -> Result<[u8; N], Malformed> {
    <[u8; N]>::try_from(bytes.as_ref())
        .map_err(|_| malformed(field, format!("has {} bytes instead of {N}", bytes.len())))
}

/// Bytes of a fixed length, or nothing.
pub(super) fn exact_or_none<const N: usize>(
    bytes: &Bytes,
    field: &'static str,
) -> Result<Option<[u8; N]>, Malformed> {
    if bytes.is_empty() {
        return Ok(None);
    }
    exact(bytes, field).map(Some)
}

/// A digest, or nothing.
pub(super) fn digest_or_none(bytes: &Bytes, field: &'static str) -> Result<Option<Digest>, Malformed> {
    Ok(exact_or_none(bytes, field)?.map(Digest))
}

/// A text, or nothing.
pub(super) fn text_or_none(text: &str) -> Option<std::sync::Arc<str>> {
    (!text.is_empty()).then(|| text.into())
}

/// The spawn that a session is the child of: id and step key, or neither.
pub(super) fn parent(
    session: &Bytes,
    step_key: &str,
    abandoned: bool,
    field: &'static str,
) -> Result<Option<Parent>, Malformed> {
    match exact_or_none(session, field)? {
        Some(_) if step_key.is_empty() => Err(malformed(field, "is set and its step key is missing")),
        Some(id) => Ok(Some(Parent { session: SessionId(id), step_key: step_key.into(), abandoned })),
        None if step_key.is_empty() && !abandoned => Ok(None),
        None => Err(malformed(field, "is missing beside what is said of it")),
    }
}

pub(super) fn parent_step_key(parent: Option<&Parent>) -> String {
    parent.map_or_else(String::new, |parent| parent.step_key.to_string())
}

/// The top of a session's tree; nothing is stored for a session that is its own.
pub(super) fn top(stored: &Bytes, own: &Bytes, field: &'static str) -> Result<SessionId, Malformed> {
    match exact_or_none(stored, field)? {
        Some(id) => Ok(SessionId(id)),
        None => Ok(SessionId(exact(own, field)?)),
    }
}

pub(super) fn top_to(top: SessionId, own: SessionId) -> Bytes {
    bytes_or_empty((top != own).then_some(top.0))
}

pub(super) fn bytes_of(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

pub(super) fn bytes_or_empty<const N: usize>(bytes: Option<[u8; N]>) -> Bytes {
    bytes.map_or_else(Bytes::new, |bytes| bytes_of(&bytes))
}

/// An event's epoch, attempt or position must not be the "none" of its type.
pub(super) fn seq(value: u64, field: &'static str) -> Result<Seq, Malformed> {
    if value == 0 {
        return Err(malformed(field, "is 0"));
    }
    Ok(Seq(value))
}

pub(super) fn epoch(value: u64, field: &'static str) -> Result<Epoch, Malformed> {
    if value == 0 {
        return Err(malformed(field, "is 0"));
    }
    Ok(Epoch(value))
}

pub(super) fn payload_to(payload: &PayloadRef) -> disk::PayloadRef {
    disk::PayloadRef {
        format: format_to(payload.format),
        codec: payload.codec.to_string(),
        size_bytes: payload.size,
        digest: bytes_of(&payload.digest.0),
        inline: payload.inline,
    }
}

pub(super) fn payload_from(payload: &disk::PayloadRef) -> Result<PayloadRef, Malformed> {
    Ok(PayloadRef {
        format: format_from(payload.format)?,
        codec: payload.codec.as_str().into(),
        size: payload.size_bytes,
        digest: Digest(exact(&payload.digest, "payload.digest")?),
        inline: payload.inline,
    })
}

/// A payload that is always there.
pub(super) fn payload_required(
    payload: Option<&disk::PayloadRef>,
    field: &'static str,
) -> Result<PayloadRef, Malformed> {
    payload_from(present(payload, field)?)
}

pub(super) fn payload_optional(payload: Option<&disk::PayloadRef>) -> Result<Option<PayloadRef>, Malformed> {
    payload.map(payload_from).transpose()
}

/// Defines both directions of an enum: ours without "unspecified", the stored one as a number.
macro_rules! words {
    ($ours:ident, $field:literal, $to:ident, $from:ident, { $($word:ident),* $(,)? }) => {
        pub(super) fn $to(value: $ours) -> i32 {
            match value {
                $($ours::$word => disk::$ours::$word as i32,)*
            }
        }

        pub(super) fn $from(value: i32) -> Result<$ours, Malformed> {
            match disk::$ours::try_from(value) {
                $(Ok(disk::$ours::$word) => Ok($ours::$word),)*
                Ok(disk::$ours::Unspecified) | Err(_) => {
                    Err(malformed($field, format!("has the unknown value {value}")))
                }
            }
        }
    };
}

words!(Format, "format", format_to, format_from, {
    Value, Json, Bytes, Failure, LlmRequest, LlmResponse, StateDelta, ConversationDelta, ZoneRecord,
    Context,
});
words!(PauseReason, "pause reason", pause_reason_to, pause_reason_from, {
    Requested, EffectUnknown, Nondeterminism, RetriesExhausted, Budget,
});
words!(ResourceMode, "resource mode", resource_mode_to, resource_mode_from, {
    Read, Write, Delete, Run,
});
words!(GuardPolicy, "guard policy", guard_policy_to, guard_policy_from, {
    Pause, Fail, Retry, Reconcile,
});
words!(UnknownReason, "unknown reason", unknown_reason_to, unknown_reason_from, {
    Threw, TimedOut, Aborted, NoOutcome, GraceOver,
});
words!(RollbackReason, "rollback reason", rollback_reason_to, rollback_reason_from, {
    Takeover, Abort,
});
words!(Role, "role", role_to, role_from, { Worker, Client, Compactor, Viewer, Admin });
words!(ApprovalDecision, "approval decision", approval_decision_to, approval_decision_from, {
    Approved, Rejected, Expired,
});
words!(IntentState, "intent state", intent_state_to, intent_state_from, {
    Open, Unknown, Due, MayRetry,
});
words!(StepState, "step state", step_state_to, step_state_from, {
    Open, Retryable, Completed, Failed,
});

pub(super) fn release_reason_to(reason: ReleaseReason) -> i32 {
    let stored = match reason {
        ReleaseReason::Unsaid => disk::ReleaseReason::Unspecified,
        ReleaseReason::Shutdown => disk::ReleaseReason::Shutdown,
        ReleaseReason::Suspended => disk::ReleaseReason::Suspended,
        ReleaseReason::Unable => disk::ReleaseReason::Unable,
        ReleaseReason::Waiting => disk::ReleaseReason::Waiting,
    };
    stored as i32
}

/// The one reason whose zero is stored: a worker that gave none.
pub(super) fn release_reason_from(value: i32) -> Result<ReleaseReason, Malformed> {
    match disk::ReleaseReason::try_from(value) {
        Ok(disk::ReleaseReason::Unspecified) => Ok(ReleaseReason::Unsaid),
        Ok(disk::ReleaseReason::Shutdown) => Ok(ReleaseReason::Shutdown),
        Ok(disk::ReleaseReason::Suspended) => Ok(ReleaseReason::Suspended),
        Ok(disk::ReleaseReason::Unable) => Ok(ReleaseReason::Unable),
        Ok(disk::ReleaseReason::Waiting) => Ok(ReleaseReason::Waiting),
        Err(_) => Err(malformed("release reason", format!("has the unknown value {value}"))),
    }
}

/// Labels in their stored form.
pub(super) fn labels_to(labels: &Labels) -> Vec<disk::Label> {
    let label =
        |(key, value): &(Arc<str>, Arc<str>)| disk::Label { key: key.to_string(), value: value.to_string() };
    labels.iter().map(label).collect()
}

/// Reads labels back.
pub(super) fn labels_from(labels: Vec<disk::Label>) -> Labels {
    labels.into_iter().map(|label| (label.key.into(), label.value.into())).collect()
}
