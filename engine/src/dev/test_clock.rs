//! `cellaflow dev --test-clock`: an engine that belongs to a test.
//!
//! Owns: the lines on standard input that move its clock. Never: reachable in `serve`, by a setting or over the network.
//!
//! Each line `skip MS` moves wall time forward by so many milliseconds and is answered by a line `skipped TOTAL_MS` on
//! standard output. When standard input ends, whoever started the engine is gone, and the engine stops.

use std::io::{BufRead as _, Write as _};
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::clock::Skipping;

/// Follows standard input from now on; the receiver fires when it has ended.
pub fn follow(clock: Arc<Skipping>) -> std::io::Result<oneshot::Receiver<()>> {
    let (ended, end) = oneshot::channel();
    let read = move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            let answer = obey(&clock, &line);
            // Nobody listens any more: the end of the input follows.
            let _ = writeln!(std::io::stdout(), "{answer}");
        }
        let _ = ended.send(());
    };
    std::thread::Builder::new().name("test-clock".into()).spawn(read)?;
    Ok(end)
}

fn obey(clock: &Skipping, line: &str) -> String {
    match line.strip_prefix("skip ").map(str::parse::<u64>) {
        Some(Ok(ms)) => format!("skipped {}", clock.skip(ms)),
        _ => format!("refused: \"{line}\" is not understood; write: skip MILLISECONDS"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_add_up_and_anything_else_is_refused() {
        let clock = Skipping::ahead_by(1);
        assert_eq!(obey(&clock, "skip 4"), "skipped 5");
        assert_eq!(obey(&clock, "skip 0"), "skipped 5");
        assert!(obey(&clock, "skip -4").starts_with("refused"));
        assert!(obey(&clock, "").starts_with("refused"));
    }
}
