//! A session's past, from its events alone: outcomes of steps, state and conversation at any event.
//!
//! Owns reading it and folding it for people. Never runs workflow code; what the code kept since its last event is not
//! known here.
//!
//! 1. What a session was at a seq follows from its events up to there, so it is the same whenever it is asked.
//! 2. Events are folded as they come, never all held in memory; what is kept is what is shown.

mod outcomes;
mod projection;

use cellaflow_proto::v1;

pub(super) use outcomes::{Outcome, Outcomes, answered_with};
pub(super) use projection::Projection;

use super::client::Engine;
use super::feed::{Feed, Item, Wanted};
use super::output::Failure;
use super::refusal;

/// How far back the last pause is first looked for, in events; it is nearly always among the last ones.
const PAUSE_WINDOW: u64 = 64;

/// Calls `visit` with every event from `from_seq` to `to_seq`.
///
/// # Errors
/// The engine's refusal, or the transport's.
pub(super) async fn each(
    engine: &Engine,
    session_id: &str,
    (from_seq, to_seq): (u64, u64),
    mut visit: impl FnMut(&v1::Event),
) -> Result<(), Failure> {
    let wanted = Wanted {
        session_id: session_id.to_owned(),
        from_seq,
        until_caught_up: true,
        headers_only: false,
        tokens: None,
    };
    let failed = |status: tonic::Status| refusal::failure(&status);
    let mut feed = Feed::open(engine, wanted).await.map_err(failed)?;
    loop {
        match feed.next().await.map_err(failed)? {
            Item::Event(event) if event.seq <= to_seq => {
                visit(&event);
                if event.seq == to_seq {
                    return Ok(());
                }
            }
            Item::Event(_) | Item::End(_) => return Ok(()),
            Item::CaughtUp | Item::Tokens(_) | Item::Reset(_) => {}
            Item::Cut => return Err(Failure::unavailable("the engine ended the answer early: try again")),
        }
    }
}

/// The last pause of a session that is paused.
///
/// # Errors
/// As `each`.
pub(super) async fn last_pause(
    engine: &Engine,
    session: &v1::Session,
) -> Result<Option<v1::SessionPaused>, Failure> {
    let mut window = PAUSE_WINDOW;
    loop {
        let from = session.seq.saturating_sub(window).max(1);
        let mut last = None;
        each(engine, &session.session_id, (from, session.seq), |event| {
            if let Some(v1::event::Body::SessionPaused(paused)) = &event.body {
                last = Some(paused.clone());
            }
        })
        .await?;
        if last.is_some() || from == 1 {
            return Ok(last);
        }
        window = window.saturating_mul(8);
    }
}
