//! Sends a request again when its outcome is unknown. Only for requests that carry a dedupe id, which makes it safe.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tonic::{Response, Status};

use super::output::Failure;
use super::refusal;
use crate::clock;
use crate::ids::Mint;

/// Waits before each further attempt, in ms: about as long as an engine needs to start again.
const PAUSES_MS: [u64; 4] = [200, 500, 1_000, 2_000];

/// Mints an id under which a request is carried out once.
pub(super) fn dedupe_id() -> Bytes {
    Bytes::copy_from_slice(&Mint::new(Arc::new(clock::System)).dedupe().0)
}

/// Sends a request until its outcome is known.
///
/// # Errors
/// The last attempt's failure.
pub(super) async fn safely<T, F>(send: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    with_pauses(&PAUSES_MS, send).await
}

async fn with_pauses<T, F>(pauses_ms: &[u64], mut send: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let mut pauses = pauses_ms.iter();
    loop {
        let status = match send().await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) => status,
        };
        match pauses.next().filter(|_| refusal::is_passing(&status)) {
            Some(ms) => tokio::time::sleep(Duration::from_millis(*ms)).await,
            None => return Err(refusal::failure(&status)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    async fn attempts(status: fn() -> Status) -> usize {
        let made = Cell::new(0);
        let outcome: Result<(), Failure> = with_pauses(&[1, 1], || {
            made.set(made.get() + 1);
            async { Err(status()) }
        })
        .await;
        assert!(outcome.is_err());
        made.get()
    }

    #[tokio::test]
    async fn only_an_unknown_outcome_is_sent_again() {
        assert_eq!(attempts(|| Status::unavailable("reset")).await, 3);
        assert_eq!(attempts(|| Status::not_found("no such session")).await, 1);
    }
}
