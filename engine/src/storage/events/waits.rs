//! Events about timers, signals and approvals: both directions.

use cellaflow_proto::disk;

use crate::graph::event::{ApprovalDecided, ApprovalRequested, Body, SignalReceived};
use crate::graph::ids::{Digest, Seq, TimeMs};
use crate::storage::fields::{
    Malformed, approval_decision_from, approval_decision_to, bytes_of, exact, payload_optional,
    payload_required, payload_to, text_or_none,
};

pub(super) fn signal_received(signal: &SignalReceived) -> disk::SignalReceived {
    disk::SignalReceived {
        name: signal.name.to_string(),
        signal_id: signal.id.as_deref().unwrap_or_default().to_owned(),
        value: Some(payload_to(&signal.value)),
        by: signal.by.to_string(),
    }
}

pub(super) fn signal_received_from(signal: disk::SignalReceived) -> Result<Body, Malformed> {
    Ok(Body::SignalReceived(SignalReceived {
        id: text_or_none(&signal.signal_id),
        value: payload_required(signal.value.as_ref(), "signal_received.value")?,
        name: signal.name.into(),
        by: signal.by.into(),
    }))
}

pub(super) fn signal_delivered_from(delivered: disk::SignalDelivered) -> Body {
    Body::SignalDelivered {
        signal: (delivered.signal_seq != 0).then_some(Seq(delivered.signal_seq)),
        step_key: delivered.step_key.into(),
    }
}

pub(super) fn approval_requested(request: &ApprovalRequested) -> disk::ApprovalRequested {
    disk::ApprovalRequested {
        step_key: request.step_key.to_string(),
        name: request.name.to_string(),
        call: Some(payload_to(&request.call)),
        args_digest: bytes_of(&request.args_digest.0),
        due_ms: request.due.map(|due| due.0),
    }
}

pub(super) fn approval_requested_from(request: disk::ApprovalRequested) -> Result<Body, Malformed> {
    Ok(Body::ApprovalRequested(ApprovalRequested {
        call: payload_required(request.call.as_ref(), "approval_requested.call")?,
        args_digest: Digest(exact(&request.args_digest, "approval_requested.args_digest")?),
        due: request.due_ms.map(TimeMs),
        step_key: request.step_key.into(),
        name: request.name.into(),
    }))
}

pub(super) fn approval_decided(decided: &ApprovalDecided) -> disk::ApprovalDecided {
    disk::ApprovalDecided {
        step_key: decided.step_key.to_string(),
        decision: approval_decision_to(decided.decision),
        by: decided.by.to_string(),
        comment: decided.comment.as_ref().map(payload_to),
    }
}

pub(super) fn approval_decided_from(decided: disk::ApprovalDecided) -> Result<Body, Malformed> {
    Ok(Body::ApprovalDecided(ApprovalDecided {
        decision: approval_decision_from(decided.decision)?,
        comment: payload_optional(decided.comment.as_ref())?,
        step_key: decided.step_key.into(),
        by: decided.by.into(),
    }))
}
