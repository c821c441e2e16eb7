//! `cellaflow sessions tail`: follows a session to its end.
//!
//! T1. Every event is printed once, in order, whatever happens to the connection in between.
//! T2. While the engine is away the command tries again, ever more slowly, and says so; it gives up after
//!     `--give-up`. The engine is looked up anew each time: it may come back on another port.

use std::time::Duration;

use cellaflow_proto::v1::SessionStatus;
use clap::Args;
use tonic::Status;

use super::events::Printer;
use crate::cli::client::{self, Engine};
use crate::cli::feed::{Feed, Item, Wanted};
use crate::cli::output::{self, Exit, Failure};
use crate::cli::session_ref::Target;
use crate::cli::streamed::Places;
use crate::cli::{format, lookup, refusal};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow sessions tail 334455                 the last 10 events, then live
  cellaflow sessions tail audit/report-7 --from 1 --json
  cellaflow sessions tail 334455 --tokens        also what its zones stream, while they do
  cellaflow sessions tail 334455 && echo it completed

Ends with the session: exit code 0 if it completed, 1 if it failed or was cancelled. A paused or
waiting session is followed until it goes on. With --json: as `sessions events --json`;
with --tokens there are lines of type \"tokens\" (zone_key, attempt, byte, text) and \"reset\"
(what came of that zone is void) besides.";

/// Waits between attempts to reach the engine, in ms: the first and the longest.
const BACKOFF_MS: (u64, u64) = (200, 5_000);

/// Events shown before the live ones, if nobody says from where.
const LAST: u64 = 10;

#[derive(Args)]
pub(in crate::cli) struct Tail {
    #[command(flatten)]
    target: Target,
    /// First event [default: the last 10]
    #[arg(long, value_name = "SEQ")]
    from: Option<u64>,
    /// Shows what open zones stream, too, as soon as it is durable
    #[arg(long)]
    tokens: bool,
    /// How long an engine may be away, for example 30s or 2h
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = format::parse_duration_ms)]
    give_up: u64,
    /// Prints one JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: lookup::Options,
}

/// Why following stopped for now.
enum Stop {
    /// The session has ended.
    Ended(SessionStatus),
    /// The connection broke; there may be more.
    Lost(String),
}

impl Tail {
    pub(super) fn run(self) -> Result<String, Failure> {
        let status = client::block_on(self.follow())?;
        output::complain(&format!("the session has {}", ended(status)));
        match status {
            SessionStatus::Completed => Ok(String::new()),
            _ => Err(Failure { message: String::new(), exit: Exit::Problem }),
        }
    }

    async fn follow(&self) -> Result<SessionStatus, Failure> {
        let engine = Engine::find(&self.engine).await?;
        let session = self.target.find(&engine).await?.session;
        let from_seq = self.from.unwrap_or_else(|| session.seq.saturating_sub(LAST - 1)).max(1);
        let mut wanted = Wanted { session_id: session.session_id, from_seq, ..Wanted::default() };
        wanted.tokens = self.tokens.then(Places::default);
        let mut printer = Printer::new(self.json);
        let mut patience = Patience::new(self.give_up);
        let mut connected = Some(engine);
        loop {
            let before = wanted.from_seq;
            let lost = match self.once(connected.take(), &mut wanted, &mut printer).await? {
                Stop::Ended(status) => return Ok(status),
                Stop::Lost(problem) => problem,
            };
            wanted.from_seq = printer.next_seq.max(wanted.from_seq);
            if wanted.from_seq > before {
                patience = Patience::new(self.give_up);
            }
            let Some(pause) = patience.next() else {
                return Err(Failure::unavailable(format!(
                    "gave up after {}: {lost}; go on with --from {}",
                    format::duration_ms(self.give_up),
                    wanted.from_seq
                )));
            };
            if patience.is_first() {
                output::complain(&format!("lost the engine ({lost}); trying again"));
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Follows over one connection. What will not pass by itself is an error.
    async fn once(
        &self,
        connected: Option<Engine>,
        wanted: &mut Wanted,
        printer: &mut Printer,
    ) -> Result<Stop, Failure> {
        let engine = match connected {
            Some(engine) => engine,
            None => match Engine::find(&self.engine).await {
                Ok(engine) => engine,
                // Unreachable, or no connection file while a dev engine starts anew.
                Err(failure) if matches!(failure.exit, Exit::Unavailable | Exit::Configuration) => {
                    return Ok(Stop::Lost(failure.message));
                }
                Err(failure) => return Err(failure),
            },
        };
        let mut feed = match Feed::open(&engine, wanted.clone()).await {
            Ok(feed) => feed,
            Err(status) => return passing(&status),
        };
        loop {
            let item = feed.next().await;
            wanted.tokens = feed.places();
            match item {
                Ok(Item::Event(event)) => printer.print(&event)?,
                Ok(Item::Tokens(tokens)) => printer.tokens(&tokens)?,
                Ok(Item::Reset(reset)) => printer.reset(&reset)?,
                Ok(Item::CaughtUp) => {}
                Ok(Item::End(status)) if format::has_ended(status) => return Ok(Stop::Ended(status)),
                Ok(Item::End(_) | Item::Cut) => return Ok(Stop::Lost("the stream ended early".to_owned())),
                Err(status) => return passing(&status),
            }
        }
    }
}

fn passing(status: &Status) -> Result<Stop, Failure> {
    let failure = refusal::failure(status);
    if refusal::is_passing(status) { Ok(Stop::Lost(failure.message)) } else { Err(failure) }
}

const fn ended(status: SessionStatus) -> &'static str {
    match status {
        SessionStatus::Completed => "completed",
        SessionStatus::Failed => "failed",
        SessionStatus::Cancelled => "been cancelled",
        SessionStatus::Unspecified
        | SessionStatus::Pending
        | SessionStatus::Running
        | SessionStatus::Waiting
        | SessionStatus::Paused => "not ended",
    }
}

/// How long to go on trying (T2). Counts the pauses it hands out, so that it needs no clock.
struct Patience {
    left_ms: u64,
    pause_ms: u64,
    handed_out: u32,
}

impl Patience {
    const fn new(give_up_ms: u64) -> Self {
        Self { left_ms: give_up_ms, pause_ms: BACKOFF_MS.0, handed_out: 0 }
    }

    /// The next pause; `None` when it is time to give up.
    fn next(&mut self) -> Option<Duration> {
        let pause_ms = self.pause_ms.min(self.left_ms);
        if pause_ms == 0 {
            return None;
        }
        self.left_ms -= pause_ms;
        self.pause_ms = (self.pause_ms * 2).min(BACKOFF_MS.1);
        self.handed_out += 1;
        Some(Duration::from_millis(pause_ms))
    }

    const fn is_first(&self) -> bool {
        self.handed_out == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t2_pauses_grow_and_end_when_patience_does() {
        let mut patience = Patience::new(2_000);
        let pauses: Vec<u128> =
            std::iter::from_fn(|| patience.next()).map(|pause| pause.as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 600]);
        let longest = {
            let mut patience = Patience::new(60_000);
            std::iter::from_fn(move || patience.next()).max()
        };
        assert_eq!(longest, Some(Duration::from_millis(BACKOFF_MS.1)));
    }

    #[test]
    fn a_refusal_ends_the_tail_and_a_broken_connection_does_not() {
        assert!(matches!(passing(&Status::unavailable("reset")), Ok(Stop::Lost(_))));
        assert!(passing(&Status::permission_denied("no")).is_err());
        assert!(passing(&Status::data_loss("a gap")).is_err());
    }
}
