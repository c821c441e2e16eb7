//! Refusals as gRPC statuses.
//!
//! A status's message starts with the stable reason code and ends with what the caller must do; its details carry the
//! same as a `cellaflow.v1.Refusal` in a `google.rpc.Status`. Whatever becomes a status is logged here, once.

use bytes::Bytes;
use cellaflow_proto::v1;
use prost::Message as _;
use tonic::{Code as Grpc, Status};

use super::auth;
use super::convert;
use crate::graph::archive;
use crate::graph::command::{Code, Rejection};
use crate::ledger::{ReadError, Refused};

/// When to try again after the engine went away or stopped, in ms: about as long as a restart takes.
const RESTART_RETRY_MS: u64 = 1_000;

/// Writes why a command has no answer.
#[must_use]
pub fn refused(refused: Refused) -> Status {
    match refused {
        Refused::Rejected(rejection) => rejected(&rejection),
        Refused::Overloaded { retry_after_ms } => rejected(&overloaded(retry_after_ms)),
        Refused::Failed(error) => unreadable(&error),
        Refused::Closed => {
            let message = "the engine went away before it could answer, the outcome is unknown: send the same request again";
            build(Grpc::Unavailable, later("outcome_unknown", message))
        }
    }
}

/// Writes a rejection.
#[must_use]
pub fn rejected(rejection: &Rejection) -> Status {
    tracing::debug!(code = rejection.code.as_str(), "request refused");
    build(grpc_code(rejection.code), convert::refusal(rejection))
}

/// Writes a failed read. What failed is for the log; the caller learns what kind of failure it was.
#[must_use]
pub fn unreadable(error: &ReadError) -> Status {
    if !matches!(error, ReadError::Archived(_) | ReadError::Erased) {
        tracing::error!(%error, "the ledger could not be read");
    }
    match error {
        ReadError::Archived(manifest) => rejected(&archived(manifest)),
        ReadError::Erased => rejected(&erased()),
        ReadError::Corrupt(_) => {
            let message = "the ledger contradicts itself: tell the engine's operator, who runs `cellaflow ledger verify`";
            build(Grpc::DataLoss, v1::Refusal { retryable: false, ..later("ledger_damaged", message) })
        }
        ReadError::Fault(_) => {
            let message =
                "the engine's storage failed: try again, and look at the engine's log if it goes on";
            build(Grpc::Unavailable, later("storage_failed", message))
        }
    }
}

/// Ends a stream because the engine stops.
#[must_use]
pub fn stopping() -> Status {
    let message = "the engine is stopping: connect again, to go on after the last event received";
    build(Grpc::Unavailable, later(Code::Unavailable.as_str(), message))
}

/// Refuses a request whose principal is missing, which no route of the server allows.
#[must_use]
pub fn unauthenticated() -> Status {
    auth::Refusal::Missing.into()
}

/// A rejection for a session whose events are in the archive.
#[must_use]
pub fn archived(manifest: &str) -> Rejection {
    Rejection { code: Code::Archived, message: archive::away(manifest), retry_after_ms: None }
}

/// A rejection for a session that was erased.
#[must_use]
pub fn erased() -> Rejection {
    Rejection { code: Code::Erased, message: archive::ERASED.to_owned(), retry_after_ms: None }
}

/// A rejection for a full queue.
#[must_use]
pub fn overloaded(retry_after_ms: u64) -> Rejection {
    let message = format!("the engine's queue is full: send this again after {retry_after_ms} ms");
    Rejection { code: Code::Unavailable, message, retry_after_ms: Some(retry_after_ms) }
}

/// A rejection for a principal that may not do this here.
#[must_use]
pub fn denied(refusal: &auth::Refusal) -> Rejection {
    Rejection { code: Code::PermissionDenied, message: refusal.to_string(), retry_after_ms: None }
}

fn later(code: &str, message: &str) -> v1::Refusal {
    v1::Refusal {
        code: code.to_owned(),
        message: message.to_owned(),
        retryable: true,
        retry_after_ms: RESTART_RETRY_MS,
    }
}

const fn grpc_code(code: Code) -> Grpc {
    match code {
        Code::SessionNotFound | Code::NotFound => Grpc::NotFound,
        Code::SessionEnded
        | Code::SessionPaused
        | Code::SessionNotPaused
        | Code::CancelRequested
        | Code::OpenChildren
        | Code::VersionMismatch
        | Code::VersionDraining
        | Code::NoVersion
        | Code::GuardNotOpen
        | Code::GuardNotDue
        | Code::GuardInFlight
        | Code::InProgress
        | Code::GuardUnresolved
        | Code::ZoneNotOpen
        | Code::OpenIntents
        | Code::PriceUnknown
        | Code::NotIdle
        | Code::ApprovalMismatch
        | Code::ApprovalDecided
        | Code::ApprovalExpired
        | Code::Archived
        | Code::LegalHold
        | Code::Erased => Grpc::FailedPrecondition,
        Code::Fenced
        | Code::LeaseHeld
        | Code::IncarnationChanged
        | Code::LineageClaimed
        | Code::ContextConflict
        | Code::ClaimLost => Grpc::Aborted,
        Code::KeyConflict
        | Code::StepConflict
        | Code::GuardKeyInUse
        | Code::GuardInputConflict
        | Code::SignalConflict => Grpc::AlreadyExists,
        Code::TooManyOpen | Code::SignalsFull | Code::TreeTooDeep | Code::DiskLow | Code::BudgetExhausted => {
            Grpc::ResourceExhausted
        }
        Code::InvalidArgument => Grpc::InvalidArgument,
        Code::Unavailable => Grpc::Unavailable,
        Code::PermissionDenied | Code::NamespaceMismatch => Grpc::PermissionDenied,
    }
}

/// `google.rpc.Status`, the message that gRPC's rich errors are.
#[derive(Clone, PartialEq, prost::Message)]
struct RichStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

fn build(code: Grpc, refusal: v1::Refusal) -> Status {
    let message = format!("{}: {}", refusal.code, refusal.message);
    let detail = prost_types::Any {
        type_url: "type.googleapis.com/cellaflow.v1.Refusal".to_owned(),
        value: refusal.encode_to_vec(),
    };
    let rich = RichStatus { code: code.into(), message: message.clone(), details: vec![detail] };
    Status::with_details(code, message, Bytes::from(rich.encode_to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client reads out of a status.
    fn read(status: &Status) -> v1::Refusal {
        let rich = RichStatus::decode(status.details()).unwrap();
        assert_eq!((rich.code, &*rich.message), (status.code().into(), status.message()));
        assert_eq!(rich.details[0].type_url, "type.googleapis.com/cellaflow.v1.Refusal");
        v1::Refusal::decode(&*rich.details[0].value).unwrap()
    }

    #[test]
    fn a_status_carries_the_refusal_whole() {
        let rejection =
            Rejection { code: Code::LeaseHeld, message: "held: wait".into(), retry_after_ms: Some(700) };
        let status = rejected(&rejection);
        assert_eq!((status.code(), status.message()), (Grpc::Aborted, "lease_held: held: wait"));
        let refusal = read(&status);
        assert_eq!((&*refusal.code, refusal.retryable, refusal.retry_after_ms), ("lease_held", true, 700));
    }

    #[test]
    fn an_unknown_outcome_asks_for_the_same_request_and_damage_does_not() {
        let closed = refused(Refused::Closed);
        assert!(closed.message().ends_with("send the same request again"));
        assert!(read(&closed).retryable);
        let damaged = refused(Refused::Failed(ReadError::Corrupt("secret details".into())));
        assert_eq!((damaged.code(), read(&damaged).retryable), (Grpc::DataLoss, false));
        assert!(!damaged.message().contains("secret"));
    }

    #[test]
    fn a_full_queue_says_when_to_come_back() {
        let status = refused(Refused::Overloaded { retry_after_ms: 50 });
        assert_eq!((status.code(), read(&status).retry_after_ms), (Grpc::Unavailable, 50));
    }
}
