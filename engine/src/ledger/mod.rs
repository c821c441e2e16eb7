//! The ledger: one write path and one read path over a store.
//!
//! Owns the queue, the decider and committer threads, the watermark and the reader. Never judges a command (that is
//! `graph::decide`) and never names a storage engine (that is `storage`).
//!
//! L1. Every change of state is a `Command` that passes one queue, is decided by one thread and leaves in one frame.
//! L2. At most one frame syncs while the next is decided.
//! L3. A reply, a duplicate's and a rejection's included, leaves only when the frame it was decided on is durable.
//! L4. After a failed commit no reply leaves: every waiter learns that the outcome is unknown, and the process ends.
//! L5. Readers see only what is durable, page by page; a gap between seqs is an error, never a short page.
//! L6. Replies and observers are served in ledger order, by one thread at a time.

mod batch;
mod bell;
mod committer;
pub mod contexts;
mod decider;
pub mod digest;
mod evidence;
mod guards;
mod handle;
mod handover;
mod lookups;
mod overlay;
pub mod payload;
mod place;
pub mod prefix;
mod reader;
pub mod restore;
pub mod restored_rows;
mod rows;
mod start;
mod view;
mod wakeups;
mod watermark;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;

use crate::graph::command::{Code, Command, Rejection, Reply};
use crate::graph::event::{Event, PayloadRef};
use crate::graph::ids::{FrameNumber, Hash, Incarnation, InstanceId, LineageId, Namespace, SessionId};
use crate::graph::session::Head;

pub use evidence::EVIDENCE_ROW_BYTES_MAX;
pub use handle::Handle;
pub use payload::{Blobs, PayloadIn};
pub use place::{NamespaceInfo, NewLineage, Place};
pub use reader::{
    Among, CHAIN_START, Changes, ContextPage, DuePage, DueRow, ListCursor, ListPage, Page, RawEvent,
    ReadError, Reader, StoredRecord, Streamed,
};
pub use start::{Parts, Threads, start};
pub use watermark::Watermark;

/// Limits of the write path.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Most commands decided into one frame.
    pub frame_commands_max: usize,
    /// Bytes after which a frame takes no further command.
    pub frame_bytes_max: usize,
    /// Most commands in a frame that the decider commits itself when nobody waits behind it; with more it is worth having
    /// the committer sync it while the next one is decided.
    pub own_frame_commands_max: usize,
    /// Most commands waiting.
    pub queue_commands_max: usize,
    /// Most payload bytes waiting.
    pub queue_bytes_max: usize,
    /// Bytes of decoded heads kept in memory.
    pub head_cache_bytes: usize,
    /// Length of a segment in ms.
    pub segment_ms: u64,
    /// Most bytes of evidence kept of one zone attempt.
    pub evidence_bytes_max: u64,
    /// How long idempotency keys are kept after the end of the session that owns them, in ms.
    pub guard_retention_ms: u64,
    /// How often the space of archived sessions is looked after, in ms.
    pub reclaim_every_ms: u64,
    /// Limits on payloads.
    pub payload: payload::Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            frame_commands_max: 1_024,
            frame_bytes_max: 4 * 1024 * 1024,
            own_frame_commands_max: 8,
            queue_commands_max: 8_192,
            queue_bytes_max: 32 * 1024 * 1024,
            head_cache_bytes: 4 * 1024 * 1024,
            segment_ms: 24 * 60 * 60 * 1_000,
            evidence_bytes_max: 4 * 1024 * 1024,
            guard_retention_ms: 30 * 24 * 60 * 60 * 1_000,
            reclaim_every_ms: 60 * 1_000,
            payload: payload::Limits::default(),
        }
    }
}

/// A command with the bytes that belong to it.
#[derive(Debug)]
pub struct Submission {
    /// What is asked for.
    pub command: Command,
    /// Payload bytes that the command's events will name.
    pub blobs: Blobs,
    /// Bytes of a `Command::Evidence`.
    pub evidence: Option<Bytes>,
    /// Lineage of a `Command::Start`, used if a session is created.
    pub new_lineage: Option<NewLineage>,
    /// Who sent it.
    pub origin: Origin,
}

/// The worker instance whose connection sent a command: it is answered and needs no push.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin(pub Option<InstanceId>);

/// What a durable command came to.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The answer.
    pub reply: Reply,
    /// The session's head after it.
    pub head: Option<Arc<Head>>,
    /// Events it appended; empty for a duplicate.
    pub events: Arc<[Arc<StoredEvent>]>,
    /// Frame whose state it was decided on.
    pub frame: FrameNumber,
}

/// Why a command has no answer.
#[derive(Clone, Debug)]
pub enum Refused {
    /// The caller's fault; nothing was appended.
    Rejected(Rejection),
    /// The queue is full; nothing was appended.
    Overloaded {
        /// When to try again.
        retry_after_ms: u64,
    },
    /// The ledger contradicts itself or could not be read; nothing was appended.
    Failed(ReadError),
    /// The outcome is unknown: close the stream without a reply, so that the caller sends it again.
    Closed,
}

/// Takes the answer to a submission; called once, in ledger order, and must not block.
pub type Responder = Box<dyn FnOnce(Result<Committed, Refused>) + Send>;

/// An event with its inline payload bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Session.
    pub session: SessionId,
    /// The event.
    pub event: Event,
    /// Hash of the chain up to and including it.
    pub hash: Hash,
    /// Bytes of the inline payloads, in the order of `Event::payloads`.
    pub inline: Vec<Bytes>,
}

impl StoredEvent {
    /// The bytes of one of the event's inline payloads; `None` for one stored as chunks.
    #[must_use]
    pub fn inline_bytes(&self, wanted: &PayloadRef) -> Option<&Bytes> {
        let inline = self.event.payloads().into_iter().filter(|payload| payload.inline);
        inline.zip(&self.inline).find(|(payload, _)| *payload == wanted).map(|(_, bytes)| bytes)
    }
}

/// Learns of everything that becomes durable, in ledger order. Called by the committer: quick, never blocking.
pub trait Observer: Send + Sync {
    /// One command's events have become durable; its caller is answered right after.
    fn committed(&self, committed: &CommittedEvents);

    /// A frame has become durable; its commands' events follow.
    fn frame(&self, _figures: &FrameFigures) {}

    /// A command was rejected; nothing was appended.
    fn rejected(&self, _code: Code) {}
}

/// What a frame was like.
#[derive(Clone, Copy, Debug)]
pub struct FrameFigures {
    /// Commands answered with it, rejected ones included.
    pub commands: usize,
    /// Bytes of keys and values.
    pub bytes: usize,
    /// Time of the commit in microseconds, its sync included.
    pub commit_us: u64,
    /// Commands that waited when it was handed over.
    pub queued_commands: usize,
    /// Bytes of those.
    pub queued_bytes: usize,
}

/// One command's events.
#[derive(Clone, Debug)]
pub struct CommittedEvents {
    /// Session.
    pub session: SessionId,
    /// Its head after them.
    pub head: Arc<Head>,
    /// The events, never empty.
    pub events: Arc<[Arc<StoredEvent>]>,
    /// Who sent the command.
    pub origin: Origin,
}

/// Decoded heads as the decider last left them, durable or not; only decisions see them.
pub(crate) type HeadCache = quick_cache::sync::Cache<SessionId, StoredHead, HeadWeight>;

/// Weighs a cached head in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadWeight;

impl quick_cache::Weighter<SessionId, StoredHead> for HeadWeight {
    fn weight(&self, _session: &SessionId, stored: &StoredHead) -> u64 {
        let head = &stored.head;
        let intents: usize = head.intents.iter().map(|intent| intent.step_key.len() + HEAD_OPEN_BYTES).sum();
        let zones: usize = head.zones.iter().map(|zone| zone.zone_key.len() + HEAD_OPEN_BYTES).sum();
        let waits = head.waits.iter().map(|wait| wait.step_key.len() + wait.name.len() + HEAD_OPEN_BYTES);
        let signals = head.signals.iter().map(|(name, _)| name.len() + HEAD_OPEN_BYTES);
        (HEAD_BASE_BYTES + intents + zones + waits.chain(signals).sum::<usize>()) as u64
    }
}

/// What a cached head takes at least, allocations and cache slot included.
const HEAD_BASE_BYTES: usize = 512;
/// What an open intent, zone or wait adds to it beside its key.
const HEAD_OPEN_BYTES: usize = 64;

/// What the ledger says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// For life.
    pub ledger_id: [u8; 16],
    /// Until it is restored from a backup.
    pub incarnation: Incarnation,
}

/// A head and the segment that holds its lineage now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredHead {
    pub(crate) head: Arc<Head>,
    pub(crate) segment: crate::storage::keys::Segment,
}

impl StoredHead {
    pub(crate) fn lineage(&self) -> LineageId {
        self.head.lineage
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        &self.head.namespace
    }
}
