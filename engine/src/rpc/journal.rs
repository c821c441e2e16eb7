//! A session's events on their way to one stream: read page by page, converted one by one.
//!
//! 1. At most one page and one event's payloads are in memory; a slow reader holds back the reading.
//! 2. Seqs leave without gaps: the ledger's pages are contiguous, and what should be there and is not is an error.
//! 3. Reading and inflating run off the threads that serve connections.

use std::sync::Arc;
use std::time::Duration;

use cellaflow_proto::v1;
use tokio::sync::mpsc;
use tonic::Status;

use super::convert::{self, Detail, TransferIds};
use super::status;
use crate::graph::event::Body;
use crate::graph::ids::{Seq, SessionId};
use crate::ledger::{ReadError, Reader, StoredEvent};

/// Bytes of events read in one go.
const PAGE_BYTES: usize = 256 * 1024;
/// Messages that wait for a slow reader; each is at most about a mebibyte, most are small.
const WAITING_MAX: usize = 8;

/// What a stream's message holds.
#[derive(Debug)]
pub enum Content {
    /// An event.
    Event(v1::Event),
    /// Part of a payload that an event after it refers to.
    Piece(v1::PayloadPiece),
}

/// Why a stream cannot go on.
#[derive(Debug)]
pub enum Ended {
    /// The reader is gone.
    Gone,
    /// The reader took nothing for so long.
    Stalled(Duration),
    /// The reader must be told.
    Failed(ReadError),
}

impl From<ReadError> for Ended {
    fn from(error: ReadError) -> Self {
        Self::Failed(error)
    }
}

/// The two ends of a stream of messages.
pub fn stream<M>() -> (Outlet<M>, tokio_stream::wrappers::ReceiverStream<Result<M, Status>>) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (Outlet { sender, stall: None }, tokio_stream::wrappers::ReceiverStream::new(receiver))
}

/// The end of a stream that sends.
#[derive(Debug)]
pub struct Outlet<M> {
    sender: mpsc::Sender<Result<M, Status>>,
    stall: Option<Duration>,
}

impl<M> Outlet<M> {
    /// Gives a reader up that takes nothing for this long.
    #[must_use]
    pub fn patient_for(self, stall: Duration) -> Self {
        Self { stall: Some(stall), ..self }
    }

    /// Sends a message once the reader has room for it.
    ///
    /// # Errors
    /// [`Ended::Gone`], or [`Ended::Stalled`].
    pub async fn send(&self, message: impl Into<M>) -> Result<(), Ended> {
        let sending = self.sender.send(Ok(message.into()));
        let sent = match self.stall {
            None => sending.await,
            Some(stall) => tokio::time::timeout(stall, sending).await.map_err(|_| Ended::Stalled(stall))?,
        };
        sent.map_err(|_| Ended::Gone)
    }

    /// Sends a message from a thread that may block.
    ///
    /// # Errors
    /// [`Ended::Gone`].
    pub fn send_blocking(&self, message: impl Into<M>) -> Result<(), Ended> {
        self.sender.blocking_send(Ok(message.into())).map_err(|_| Ended::Gone)
    }

    /// Ends the stream with a status.
    pub async fn fail(self, status: Status) {
        // A reader that is gone needs no status.
        let _gone = self.sender.send(Err(status)).await.is_err();
    }

    /// Ends the stream as `ended` says.
    pub async fn end(self, ended: Result<(), Ended>) {
        match ended {
            Err(Ended::Failed(error)) => self.fail(status::unreadable(&error)).await,
            // Nothing more fits into its stream: that it ends without its last message says that it was cut off.
            Err(Ended::Stalled(stall)) => {
                tracing::info!(stall_ms = stall.as_millis(), "a subscriber that took nothing was cut off");
            }
            Ok(()) | Err(Ended::Gone) => {}
        }
    }

    /// Resolves when the reader is gone.
    pub async fn gone(&self) {
        self.sender.closed().await;
    }
}

/// Reads one session's events forward.
pub struct Journal {
    reader: Reader,
    session: SessionId,
    next: Seq,
    detail: Detail,
    transfers: TransferIds,
}

impl Journal {
    /// Starts at `from`.
    #[must_use]
    pub fn new(reader: Reader, session: SessionId, from: Seq, detail: Detail) -> Self {
        Self { reader, session, next: from, detail, transfers: TransferIds::default() }
    }

    /// The last event passed; before the first one it is the one before the start.
    #[must_use]
    pub fn passed(&self) -> Seq {
        Seq(self.next.0.saturating_sub(1))
    }

    /// Sends the events up to `to`, which is durable; `each_page` is called between pages.
    ///
    /// # Errors
    /// The reader is gone, or an event cannot be read (2).
    pub async fn send_to<M: From<Content>>(
        &mut self,
        to: Seq,
        outlet: &Outlet<M>,
        each_page: impl Fn(),
    ) -> Result<(), Ended> {
        self.send_with(to, outlet, each_page, |_| None).await
    }

    /// As `send_to`; what `before` makes of an event is sent before it.
    ///
    /// # Errors
    /// As `send_to`.
    pub async fn send_with<M: From<Content>>(
        &mut self,
        to: Seq,
        outlet: &Outlet<M>,
        each_page: impl Fn(),
        mut before: impl FnMut(&Body) -> Option<M>,
    ) -> Result<(), Ended> {
        while self.next <= to {
            each_page();
            let events = self.page().await?;
            let Some(last) = events.last().map(|stored| stored.event.seq) else {
                let (session, next) = (self.session, self.next);
                let problem = format!("session {session} has {to} events and ends before event {next}");
                return Err(ReadError::Corrupt(problem).into());
            };
            for stored in events.into_iter().take_while(|stored| stored.event.seq <= to) {
                if let Some(message) = before(&stored.event.body) {
                    outlet.send(message).await?;
                }
                self.send_one(stored, outlet).await?;
            }
            self.next = last.min(to).next();
        }
        Ok(())
    }

    async fn page(&self) -> Result<Vec<Arc<StoredEvent>>, ReadError> {
        let (reader, session, next) = (self.reader.clone(), self.session, self.next);
        Ok(blocking(move || reader.events(session, next, PAGE_BYTES)).await?.events)
    }

    async fn send_one<M: From<Content>>(
        &mut self,
        stored: Arc<StoredEvent>,
        to: &Outlet<M>,
    ) -> Result<(), Ended> {
        let (pieces, event) = self.convert(stored).await?;
        for piece in pieces {
            to.send(Content::Piece(piece)).await?;
        }
        to.send(Content::Event(event)).await
    }

    async fn convert(
        &mut self,
        stored: Arc<StoredEvent>,
    ) -> Result<(Vec<v1::PayloadPiece>, v1::Event), ReadError> {
        let beside = stored.event.payloads().iter().any(|payload| !payload.inline);
        if !beside || self.detail == Detail::Headers {
            return convert::event_to_wire(&stored, &self.reader, &mut self.transfers, self.detail);
        }
        let (reader, detail) = (self.reader.clone(), self.detail);
        let mut transfers = std::mem::take(&mut self.transfers);
        let (transfers, wire) = blocking(move || {
            let wire = convert::event_to_wire(&stored, &reader, &mut transfers, detail)?;
            Ok((transfers, wire))
        })
        .await?;
        self.transfers = transfers;
        Ok(wire)
    }
}

/// Runs a read off the threads that serve connections (3).
pub(super) async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ReadError> {
    match tokio::task::spawn_blocking(read).await {
        Ok(result) => result,
        Err(error) => Err(ReadError::Fault(format!("a read did not end: {error}"))),
    }
}
