//! Being asked to stop: SIGTERM from a supervisor, SIGINT from a keyboard.

use tokio::signal::unix::{SignalKind, signal};

/// Completes when the process is asked to stop.
///
/// The handlers are installed when this is first polled; a signal before that ends the process at once.
pub async fn stop_requested() {
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        (terminate, interrupt) => {
            tracing::error!(
                ?terminate,
                ?interrupt,
                "signals cannot be handled; only kill -9 stops this process"
            );
            std::future::pending().await
        }
    }
}
