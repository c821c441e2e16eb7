//! Refusals on the channel: one per message, with a reason code and a hint when to try again.

use cellaflow_proto::v1;
use v1::engine_message::Body;

use super::outbox::Out;
use crate::graph::command::{Code, Rejection};
use crate::graph::ids::SessionId;
use crate::ledger::ReadError;
use crate::rpc::convert;

/// When to try again after the engine said that it drains: about as long as a restart takes.
const DRAIN_RETRY_MS: u64 = 1_000;

/// Refuses one request.
pub fn nack(request_id: u64, session: Option<SessionId>, rejection: &Rejection) -> Out {
    nack_with(request_id, session, convert::refusal(rejection))
}

/// Refuses one request because the ledger could not be read.
pub fn unreadable(request_id: u64, session: Option<SessionId>, error: &ReadError) -> Out {
    let (code, retry_after_ms) = match error {
        ReadError::Archived(manifest) => {
            return nack(request_id, session, &crate::rpc::status::archived(manifest));
        }
        ReadError::Erased => return nack(request_id, session, &crate::rpc::status::erased()),
        ReadError::Corrupt(_) => ("ledger_damaged", 0),
        ReadError::Fault(_) => ("storage_failed", DRAIN_RETRY_MS),
    };
    let refusal = v1::Refusal {
        code: code.to_owned(),
        message: error.to_string(),
        retryable: retry_after_ms > 0,
        retry_after_ms,
    };
    nack_with(request_id, session, refusal)
}

fn nack_with(request_id: u64, session: Option<SessionId>, refusal: v1::Refusal) -> Out {
    let session_id = session.map(|session| session.to_string()).unwrap_or_default();
    Out::Other(Box::new(Body::Nack(v1::Nack { request_id, refusal: Some(refusal), session_id })))
}

/// The queue is full.
pub fn overloaded(retry_after_ms: u64) -> Rejection {
    Rejection {
        code: Code::Unavailable,
        message: format!("the engine's queue is full: send this again after {retry_after_ms} ms"),
        retry_after_ms: Some(retry_after_ms),
    }
}

/// The engine stops.
pub fn draining() -> Rejection {
    Rejection {
        code: Code::Unavailable,
        message: "the engine is stopping and takes no new work: connect again".to_owned(),
        retry_after_ms: Some(DRAIN_RETRY_MS),
    }
}

/// Another worker took the lease while this one was being answered.
pub fn taken_over() -> Rejection {
    Rejection {
        code: Code::Fenced,
        message: "another worker took this session over: stop running it".to_owned(),
        retry_after_ms: None,
    }
}

/// The session does not exist, or belongs to another namespace, which looks the same.
pub fn no_session() -> Rejection {
    Rejection {
        code: Code::SessionNotFound,
        message: "no such session in this namespace: check the id and the token's namespace".to_owned(),
        retry_after_ms: None,
    }
}

/// The worker's epochs belong to an earlier incarnation of the ledger.
pub fn other_incarnation() -> Rejection {
    Rejection {
        code: Code::IncarnationChanged,
        message: "the ledger was restored since this worker took its leases: drop its runs and attach anew"
            .to_owned(),
        retry_after_ms: None,
    }
}

/// The worker holds as many sessions as one worker may.
pub fn too_many_sessions(max: usize) -> Rejection {
    Rejection {
        code: Code::Unavailable,
        message: format!(
            "this worker holds sessions_per_worker_max = {max} sessions: finish some, or start a worker"
        ),
        retry_after_ms: Some(DRAIN_RETRY_MS),
    }
}

/// The start names a namespace that the connection does not speak for.
pub fn other_namespace(own: &str) -> Rejection {
    Rejection {
        code: Code::NamespaceMismatch,
        message: format!("this channel belongs to namespace {own}: leave start.request.namespace empty"),
        retry_after_ms: None,
    }
}
