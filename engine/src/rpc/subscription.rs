//! One subscription: a session's events, and what its open zones stream, until the session ends.
//!
//! 1. Every event is sent once, in order, and the end always comes last.
//! 2. What is sent is durable: events and evidence are read below the watermark, never handed over in memory.
//! 3. A slow subscriber holds back its own reading and nothing else; one that takes nothing for
//!    `subscriber_stall_ms_max` is cut off: its stream ends without an `End`, and it goes on from where it was.
//!    Subscribers at a time are bounded.

use std::sync::Arc;
use std::time::Duration;

use cellaflow_proto::v1;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use v1::subscribe_session_response::Body;

use super::context::Context;
use super::convert;
use super::journal::{self, Content, Ended, Journal, Outlet};
use super::status;
use crate::config::Limits;
use crate::graph::command::{Code, Rejection};
use crate::graph::ids::SessionId;
use crate::graph::session::{Head, OpenZone};
use crate::graph::stream::{Cursor, Reset};
use crate::ledger::ReadError;

/// Bytes of what a zone streamed that are read in one go.
const STREAMED_BYTES: usize = 128 * 1024;
/// When to subscribe again after being refused because there are too many, in ms.
const RETRY_AFTER_MS: u64 = 1_000;

/// How many subscribe, and how patient the engine is with them; cheap to clone.
#[derive(Clone, Debug)]
pub struct Subscribers {
    room: Arc<Semaphore>,
    stall: Duration,
}

impl Subscribers {
    /// Room for `subscribers_max`.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let room = usize::try_from(limits.subscribers_max).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            room: Arc::new(Semaphore::new(room.min(Semaphore::MAX_PERMITS))),
            stall: Duration::from_millis(limits.subscriber_stall_ms_max),
        }
    }

    /// Lets one more in.
    ///
    /// # Errors
    /// `unavailable` if there is no room (3).
    pub(super) fn admit(&self) -> Result<OwnedSemaphorePermit, Rejection> {
        Arc::clone(&self.room).try_acquire_owned().map_err(|_| Rejection {
            code: Code::Unavailable,
            message: format!(
                "too many subscriptions are open (subscribers_max): subscribe again after {RETRY_AFTER_MS} ms"
            ),
            retry_after_ms: Some(RETRY_AFTER_MS),
        })
    }

    /// How long a subscriber may take nothing.
    pub(super) const fn stall(&self) -> Duration {
        self.stall
    }
}

/// What one subscriber is sent.
pub(super) struct Subscription {
    pub(super) session: SessionId,
    pub(super) journal: Journal,
    pub(super) until_caught_up: bool,
    /// How far it has read what zones stream; `None`: it does not want that.
    pub(super) tokens: Option<Cursor>,
    pub(super) _slot: OwnedSemaphorePermit,
}

type Out = Outlet<v1::SubscribeSessionResponse>;

impl Subscription {
    /// Runs until the session's end, or the subscriber's. Its slot is free again afterwards.
    pub(super) async fn run(mut self, context: Context, outlet: Out) {
        tokio::select! {
            ended = self.send(&context, &outlet) => return outlet.end(ended).await,
            () = outlet.gone() => return,
            () = context.stopped() => {}
        }
        outlet.fail(status::stopping()).await;
    }

    async fn send(&mut self, context: &Context, outlet: &Out) -> Result<(), Ended> {
        let mut changes = context.ledger.reader().changes(self.session);
        let mut caught_up = false;
        loop {
            changes.seen();
            // The head is read first: the events it counts are there, and a terminal one has no later ones.
            let head = self.head(context).await?;
            self.send_events(&head, outlet).await?;
            for zone in &head.zones {
                self.send_streamed(context, zone, outlet).await?;
            }
            let seq = self.journal.passed().min(head.seq).0;
            let ends = self.until_caught_up || head.status.is_terminal();
            if !caught_up {
                caught_up = true;
                outlet.send(message(Body::CaughtUp(v1::CaughtUp { seq }))).await?;
            }
            if ends {
                let status = convert::status_to_wire(&head.status).into();
                return outlet.send(message(Body::End(v1::End { seq, status }))).await; // 1
            }
            if self.tokens.is_some() {
                changes.anything().await;
            } else {
                changes.event_after(head.seq).await;
            }
        }
    }

    async fn send_events(&mut self, head: &Head, outlet: &Out) -> Result<(), Ended> {
        let Self { journal, tokens, .. } = self;
        let before = |body: &_| tokens.as_mut().and_then(|cursor| cursor.pass(body)).map(reset);
        journal.send_with(head.seq, outlet, || {}, before).await
    }

    async fn send_streamed(&mut self, context: &Context, zone: &OpenZone, outlet: &Out) -> Result<(), Ended> {
        let Some(cursor) = &mut self.tokens else { return Ok(()) };
        let (void, mut from) = cursor.open(zone);
        if let Some(void) = void {
            outlet.send(reset(void)).await?;
        }
        loop {
            let (reader, session, open) = (context.ledger.reader().clone(), self.session, zone.clone());
            let streamed =
                journal::blocking(move || reader.streamed(session, &open, from, STREAMED_BYTES)).await?;
            for data in streamed.pieces {
                let offset = from;
                from += data.len() as u64;
                outlet.send(chunk(zone, offset, data)).await?;
                cursor.read(zone, from);
            }
            if !streamed.more {
                return Ok(());
            }
        }
    }

    async fn head(&self, context: &Context) -> Result<Arc<Head>, ReadError> {
        let (reader, session) = (context.ledger.reader().clone(), self.session);
        let head = journal::blocking(move || reader.head(session)).await?;
        head.ok_or_else(|| ReadError::Corrupt(format!("session {session} is gone while it was read")))
    }
}

impl From<Content> for v1::SubscribeSessionResponse {
    fn from(content: Content) -> Self {
        message(match content {
            Content::Event(event) => Body::Event(event),
            Content::Piece(piece) => Body::Piece(piece),
        })
    }
}

fn reset(void: Reset) -> v1::SubscribeSessionResponse {
    let Reset { zone_key, attempt } = void;
    message(Body::StreamReset(v1::StreamReset { zone_key: zone_key.to_string(), attempt }))
}

fn chunk(zone: &OpenZone, offset: u64, data: bytes::Bytes) -> v1::SubscribeSessionResponse {
    let OpenZone { zone_key, attempt, .. } = zone;
    let zone_key = zone_key.to_string();
    message(Body::TokenChunk(v1::TokenChunk { zone_key, attempt: *attempt, offset, data }))
}

const fn message(body: Body) -> v1::SubscribeSessionResponse {
    v1::SubscribeSessionResponse { body: Some(body) }
}
