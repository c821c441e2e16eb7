//! Waiting for a condition, with an end.

use std::time::{Duration, Instant};

/// Longest wait of any test for anything that is to happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks every 10 ms until there is an answer.
///
/// # Panics
/// If there is none within [`PATIENCE`].
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits for something that ends by itself.
///
/// # Panics
/// If it does not within [`PATIENCE`].
pub async fn within<T>(what: &str, ends: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, ends).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}
