//! One frame in the making: decide, evolve, encode, index.
//!
//! 1. A command leaves all its changes in the frame or none.
//! 2. The head of a session is written once per frame, as its last event left it.
//! 3. What was decided is sealed: a command that would make the frame too large is refused before it changes anything,
//!    because heads and overlay could not forget it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::committer::{Job, Release};
use super::decider::Queued;
use super::evidence::EvidenceLog;
use super::overlay::{Overlay, Row, RowName};
use super::reader::{CHAIN_START, ReadError, Reader};
use super::rows::{self, Changes, Context};
use super::view::View;
use super::{
    Committed, CommittedEvents, HeadCache, Refused, Settings, StoredEvent, StoredHead, Submission, Watermark,
    guards,
};
use crate::clock::Clock;
use crate::graph::command::{Code, Command, Rejection, Reply};
use crate::graph::decide::{self, Decision};
use crate::graph::event::Event;
use crate::graph::evolve::evolve;
use crate::graph::ids::{FrameNumber, Hash, SessionId, TimeMs};
use crate::graph::index::{self, Digests};
use crate::graph::session::{HEAD_BYTES_MAX, Head};
use crate::storage::keys::{Item, LedgerKey, Segment};
use crate::storage::{FRAME_BYTES_MAX, Frame, Op, Position, Table, events};

/// What the decider knows between frames.
pub(super) struct Deciding {
    pub(super) reader: Reader,
    pub(super) watermark: Arc<Watermark>,
    pub(super) cache: Arc<HeadCache>,
    pub(super) overlay: Overlay,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) settings: Settings,
    /// As the last sealed frame leaves it.
    pub(super) position: Position,
    pub(super) evidence: EvidenceLog,
}

/// A frame that still takes commands.
pub(super) struct Batch {
    number: FrameNumber,
    ops: Vec<Op>,
    heads: HashMap<SessionId, StoredHead>,
    releases: Vec<Release>,
    bytes: usize,
    room: (usize, usize),
}

impl Batch {
    pub(super) fn has_room(&self) -> bool {
        let (commands_max, bytes_max) = self.room;
        self.releases.len() < commands_max && self.bytes < bytes_max
    }
}

impl Batch {
    /// Refuses what would make the frame larger than the storage takes (3).
    fn check_room(&self, draft: &Draft) -> Result<(), Refused> {
        let bytes: usize = draft.ops.iter().map(Op::bytes).sum();
        let heads = (self.heads.len() + 1) * (HEAD_BYTES_MAX + HEAD_KEY_BYTES);
        if self.bytes + bytes + heads <= FRAME_BYTES_MAX {
            return Ok(());
        }
        if self.ops.is_empty() {
            let message = format!(
                "the request and its payloads have {bytes} bytes and one request may have {FRAME_BYTES_MAX}: send less at once"
            );
            return Err(Refused::Rejected(Rejection::new(Code::InvalidArgument, message)));
        }
        Err(Refused::Overloaded { retry_after_ms: RETRY_AFTER_MS })
    }
}

/// Room for the key of a head's row in bytes, its envelope included.
const HEAD_KEY_BYTES: usize = 64;
/// When to send again what did not fit into the frame, in milliseconds: about when the next one is gathered.
const RETRY_AFTER_MS: u64 = 50;

/// A decision that is to become a draft.
struct Drafting {
    submission: Submission,
    decision: Decision,
    before: Option<StoredHead>,
    now: TimeMs,
}

/// What one command changes, before it is known that all of it can be.
struct Draft {
    ops: Vec<Op>,
    events: Vec<Arc<StoredEvent>>,
    rows: Vec<(RowName, Row)>,
    head: StoredHead,
    /// Heads of other sessions that lie elsewhere now.
    relocated: Vec<StoredHead>,
    moved: Vec<SessionId>,
    /// Sessions that are no more.
    vanished: Vec<SessionId>,
}

impl Deciding {
    pub(super) fn batch(&mut self) -> Batch {
        self.overlay.settle(self.watermark.settled());
        Batch {
            number: FrameNumber(self.position.frame.0 + 1),
            ops: Vec::new(),
            heads: HashMap::new(),
            releases: Vec::new(),
            bytes: 0,
            room: (self.settings.frame_commands_max, self.settings.frame_bytes_max),
        }
    }

    pub(super) fn decide(&mut self, batch: &mut Batch, queued: Queued) {
        let Queued { submission, lookups, responder, bytes: _ } = queued;
        let origin = submission.origin;
        let streamed = match &submission.command {
            Command::Evidence(evidence) => Some(evidence.session),
            _ => None,
        };
        let outcome = self.judge(batch, submission, &lookups);
        drop(lookups);
        let release = match outcome {
            Ok(committed) => {
                let events = committed.head.as_ref().filter(|_| !committed.events.is_empty()).map(|head| {
                    CommittedEvents {
                        session: head.session,
                        head: Arc::clone(head),
                        events: Arc::clone(&committed.events),
                        origin,
                    }
                });
                Release { events, streamed, result: Ok(committed), responder }
            }
            Err(refused) => Release { events: None, streamed: None, result: Err(refused), responder },
        };
        batch.releases.push(release);
    }

    fn judge(
        &mut self,
        batch: &mut Batch,
        submission: Submission,
        lookups: &super::lookups::Lookups,
    ) -> Result<Committed, Refused> {
        let now = TimeMs(self.clock.wall_ms());
        let view = self.view(lookups);
        let decided = decide::decide(&view, &submission.command, now);
        let before = decided.as_ref().ok().and_then(|decision| view.stored_head(decision.session));
        if let Some(error) = view.error.into_inner() {
            return Err(Refused::Failed(error));
        }
        let decision = decided.map_err(Refused::Rejected)?;
        if decision.events.is_empty() {
            let drafting = Drafting { submission, decision, before, now };
            return Ok(self.without_events(batch, &drafting, lookups));
        }
        let reply = decision.reply;
        let drafted = Drafting { submission, decision, before, now };
        let draft = self.draft(drafted, lookups).map_err(Refused::Failed)?;
        batch.check_room(&draft)?;
        Ok(self.accept(batch, reply, draft))
    }

    fn view<'a>(&'a self, lookups: &'a super::lookups::Lookups) -> View<'a> {
        View { overlay: &self.overlay, cache: &self.cache, lookups, reader: &self.reader, error: None.into() }
    }

    // Evidence, the pages of a restore, contexts, and keys whose retention is over change rows without an event.
    fn without_events(
        &mut self,
        batch: &mut Batch,
        drafting: &Drafting,
        lookups: &super::lookups::Lookups,
    ) -> Committed {
        let Drafting { submission, decision, before, now: _ } = drafting;
        if let (Command::Evidence(evidence), Some(bytes), Some(stored), Reply::Done { entry: Some(entry) }) =
            (&submission.command, &submission.evidence, before, decision.reply)
            && let Some(op) = self.evidence.keep(stored, evidence, entry, bytes)
        {
            batch.bytes += op.bytes();
            batch.ops.push(op);
        }
        if let Command::ForgetKeys(forget) = &submission.command {
            let view = self.view(lookups);
            let ops = guards::dropped(forget, |key| decide::View::guard(&view, key));
            batch.bytes += ops.iter().map(Op::bytes).sum::<usize>();
            batch.ops.extend(ops);
        }
        if let Command::Archive(_) | Command::PutContext(_) = &submission.command {
            for (key, value) in submission.blobs.rows() {
                let op = match value {
                    Some(value) => Op::put(Table::Ledger, key.clone(), value.clone()),
                    None => Op::delete(Table::Ledger, key.clone()),
                };
                batch.bytes += op.bytes();
                batch.ops.push(op);
            }
        }
        if let Command::PutContext(put) = &submission.command {
            let name = RowName::Context(put.session);
            self.overlay.put(batch.number, name, Row::Context(put.row.clone()));
        }
        let head = before.as_ref().map(|stored| Arc::clone(&stored.head));
        Committed { reply: decision.reply, head, events: Arc::new([]), frame: batch.number }
    }

    fn draft(&self, drafting: Drafting, lookups: &super::lookups::Lookups) -> Result<Draft, ReadError> {
        let Drafting { submission, decision, before, now } = drafting;
        let view = self.view(lookups);
        let base = match &submission.command {
            Command::Fork(fork) => Some(Arc::clone(&fork.base)),
            _ => None,
        };
        let segment = self.segment(before.as_ref(), base.as_deref(), now)?;
        let digests = Digests::of(&submission.command);
        let context = Context {
            view: &view,
            reader: &self.reader,
            evidence: &self.evidence,
            blobs: &submission.blobs,
            guard_retention_ms: self.settings.guard_retention_ms,
        };
        let mut changes = Changes::new(segment);
        let mut head: Option<Arc<Head>> = before.map(|stored| stored.head);
        if head.is_none() && base.is_none() {
            changes.new_lineage(submission.new_lineage.as_ref(), &decision.events, now)?;
        }
        let mut stored_events = Vec::with_capacity(decision.events.len());
        for event in decision.events {
            // A fork goes on where its parent was cut, with rows of its own.
            let folded = head.as_ref().or(base.as_ref());
            let previous = folded.map_or(CHAIN_START, |head| head.hash);
            let (stored, record) = encode(decision.session, event, previous, &submission)?;
            let after = evolve(folded.map(|head| &**head), &stored.event, stored.hash)
                .map_err(|corrupt| ReadError::Corrupt(corrupt.to_string()))?;
            let key = Item::Event { session: decision.session, seq: stored.event.seq };
            changes.ops.push(Op::put(
                Table::Ledger,
                LedgerKey::new(segment, after.lineage, key).bytes(),
                record,
            ));
            for change in index::changes(head.as_deref(), &stored.event, &after, &digests) {
                changes.index(&after, change, &context)?;
            }
            head = Some(Arc::new(after));
            stored_events.push(Arc::new(stored));
        }
        let head =
            head.ok_or_else(|| ReadError::Corrupt("a decision without events was drafted".to_owned()))?;
        for chunk in submission.blobs.into_chunks() {
            let item = Item::Chunk { digest: chunk.digest, n: chunk.n };
            changes.ops.push(Op::put(
                Table::Ledger,
                LedgerKey::new(segment, head.lineage, item).bytes(),
                chunk.value,
            ));
        }
        let head = StoredHead { head, segment };
        let Changes { ops, rows, heads: relocated, moved, vanished, .. } = changes;
        Ok(Draft { ops, events: stored_events, rows, head, relocated, moved, vanished })
    }

    fn segment(
        &self,
        before: Option<&StoredHead>,
        base: Option<&Head>,
        now: TimeMs,
    ) -> Result<Segment, ReadError> {
        match (before, base) {
            (Some(stored), _) => Ok(stored.segment),
            (None, Some(base)) => {
                let place = self.reader.place(base.session)?;
                let missing = || ReadError::Corrupt(format!("the forked session {} is gone", base.session));
                Ok(place.ok_or_else(missing)?.segment)
            }
            (None, None) => Ok(Segment::at(now, self.settings.segment_ms)),
        }
    }

    fn accept(&mut self, batch: &mut Batch, reply: Reply, draft: Draft) -> Committed {
        let Draft { ops, events, rows, head, relocated, moved, vanished } = draft;
        batch.bytes += ops.iter().map(Op::bytes).sum::<usize>();
        batch.ops.extend(ops);
        for (name, row) in rows {
            self.overlay.put(batch.number, name, row);
        }
        // They have ended: whoever still sees one in the overlay is told so, and nothing is appended.
        for session in &vanished {
            drop(self.cache.remove(session));
        }
        for moved in moved.iter().copied().chain(relocated.iter().map(|stored| stored.head.session)) {
            self.reader.forget(moved);
        }
        for stored in relocated {
            self.keep_head(batch, stored);
        }
        self.evidence.follow(&events);
        self.keep_head(batch, head.clone());
        Committed { reply, head: Some(head.head), events: events.into(), frame: batch.number }
    }

    fn keep_head(&mut self, batch: &mut Batch, stored: StoredHead) {
        let session = stored.head.session;
        self.overlay.put(batch.number, RowName::Head(session), Row::Head(stored.clone()));
        self.cache.insert(session, stored.clone());
        batch.heads.insert(session, stored);
    }

    /// Seals what was gathered; a batch that changed nothing still carries its answers through the committer (L3).
    pub(super) fn seal(&mut self, batch: Batch) -> Job {
        let Batch { mut ops, heads, releases, .. } = batch;
        ops.extend(heads.into_iter().map(|(session, head)| rows::put_head(session, &head)));
        if ops.is_empty() {
            return Job { frame: Ok(None), releases, queued: (0, 0) };
        }
        let epoch = self.position.shard_epoch;
        let sealed = Frame::follow(&self.position, epoch, ops);
        let frame = sealed.and_then(|frame| {
            self.position = self.position.advance(&frame)?;
            Ok(Some(frame))
        });
        Job { frame, releases, queued: (0, 0) }
    }
}

fn encode(
    session: SessionId,
    event: Event,
    previous: Hash,
    submission: &Submission,
) -> Result<(StoredEvent, Bytes), ReadError> {
    let mut inline = Vec::new();
    for payload in event.payloads().into_iter().filter(|payload| payload.inline) {
        let bytes = submission.blobs.inline(&payload.digest).ok_or_else(|| {
            ReadError::Corrupt(format!(
                "an event of session {session} names a payload that its command did not bring"
            ))
        })?;
        inline.push(bytes.clone());
    }
    let encoded = events::encode(&event, &inline)?;
    let hash = events::chain(previous, &encoded.header_bytes());
    let record = rows::seal_event(hash, &encoded.bytes);
    Ok((StoredEvent { session, event, hash, inline }, record))
}
