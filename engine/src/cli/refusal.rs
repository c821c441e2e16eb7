//! Reads what the engine refused, and says it with its reason code and what to do.
//!
//! Refusals carry a `cellaflow.v1.Refusal` in the details of their status (`google.rpc.Status`); what has none comes
//! from the transport or from the check of the token.

use cellaflow_proto::v1;
use prost::Message as _;
use tonic::{Code, Status};

use super::format;
use super::output::Failure;

/// `google.rpc.Status`, the message that gRPC's rich errors are.
#[derive(Clone, PartialEq, prost::Message)]
struct RichStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// Returns the engine's own words for a refusal, if the status has any.
pub(super) fn of(status: &Status) -> Option<v1::Refusal> {
    let details = RichStatus::decode(status.details()).ok()?.details;
    let ours = details.iter().find(|detail| detail.type_url.ends_with("/cellaflow.v1.Refusal"))?;
    v1::Refusal::decode(&*ours.value).ok()
}

/// Says whether the same request, or the rest of a stream, is worth another attempt soon.
pub(super) fn is_passing(status: &Status) -> bool {
    of(status).map_or_else(
        || matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled),
        |refusal| refusal.retryable && status.code() == Code::Unavailable,
    )
}

/// Turns a status into a command's failure.
pub(super) fn failure(status: &Status) -> Failure {
    match of(status) {
        Some(refusal) => refused(status.code(), &refusal),
        None => unexplained(status),
    }
}

fn refused(code: Code, refusal: &v1::Refusal) -> Failure {
    let mut message = format!("{}: {}", refusal.code, refusal.message);
    if refusal.retryable {
        message += &match refusal.retry_after_ms {
            0 => " (may succeed later)".to_owned(),
            ms => format!(" (may succeed in {})", format::duration_ms(ms)),
        };
    }
    match code {
        Code::PermissionDenied | Code::Unauthenticated => Failure::forbidden(message),
        _ if refusal.retryable => Failure::try_again(message),
        _ => Failure::other(message),
    }
}

fn unexplained(status: &Status) -> Failure {
    let (name, message) = (name(status.code()), status.message());
    let message = if message.is_empty() { status.code().description() } else { message };
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => Failure::forbidden(format!("{name}: {message}")),
        Code::Unavailable => {
            let cause = std::error::Error::source(status)
                .map_or_else(String::new, |cause| format!(" ({})", super::client::chain(cause)));
            Failure::unavailable(format!(
                "{name}: {message}{cause}; the connection to the engine broke: look whether it still runs, then try again"
            ))
        }
        // Under TLS 1.3 a client learns only from its first answer that it lacked a certificate, and the transport drops
        // the reason.
        Code::Cancelled | Code::Unknown => Failure::unavailable(format!(
            "{name}: {message}; the engine closed the connection: look whether it still runs, and whether it asks its clients for a \
             certificate (--client-cert and --client-key, or CELLAFLOW_CERT and CELLAFLOW_KEY)"
        )),
        Code::Unimplemented => Failure::other(format!(
            "{name}: {message}; the engine's version may differ from this program's: compare `cellaflow --version` on both sides"
        )),
        Code::DeadlineExceeded => Failure::unavailable(format!("{name}: {message}; try again")),
        _ => Failure::other(format!("{name}: {message}")),
    }
}

/// The reason code of a status that brought none of the engine's: gRPC's own name in our spelling.
const fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Exit;

    fn status(code: Code, refusal: &v1::Refusal) -> Status {
        let detail = prost_types::Any {
            type_url: "type.googleapis.com/cellaflow.v1.Refusal".to_owned(),
            value: refusal.encode_to_vec(),
        };
        let rich = RichStatus { details: vec![detail] };
        Status::with_details(code, "in short", rich.encode_to_vec().into())
    }

    fn refusal(code: &str, retry_after_ms: u64) -> v1::Refusal {
        v1::Refusal {
            code: code.into(),
            message: "what happened: what to do".into(),
            retryable: retry_after_ms > 0,
            retry_after_ms,
        }
    }

    #[test]
    fn a_refusal_is_shown_with_its_reason_its_advice_and_when_to_come_back() {
        let failure = failure(&status(Code::FailedPrecondition, &refusal("guard_not_due", 2_500)));
        assert_eq!(failure.message, "guard_not_due: what happened: what to do (may succeed in 2.5 s)");
        assert_eq!(failure.exit, Exit::TryAgain);
    }

    #[test]
    fn what_the_engine_means_for_good_is_a_problem_and_not_tried_again() {
        let refused = status(Code::FailedPrecondition, &refusal("session_ended", 0));
        assert_eq!(failure(&refused).exit, Exit::Problem);
        assert!(!is_passing(&refused));
        assert!(is_passing(&status(Code::Unavailable, &refusal("outcome_unknown", 1_000))));
    }

    #[test]
    fn a_wrong_token_and_a_broken_connection_have_exit_codes_of_their_own() {
        assert_eq!(failure(&Status::unauthenticated("no token: do this")).exit, Exit::Forbidden);
        let broken = failure(&Status::unavailable("reset"));
        assert_eq!(broken.exit, Exit::Unavailable);
        assert!(broken.message.starts_with("unavailable: reset"), "{}", broken.message);
    }
}
