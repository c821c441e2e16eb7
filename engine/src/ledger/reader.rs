//! The read path: pages of durable state.
//!
//! 1. What a reader sees is at or below the watermark (L5): a snapshot that is ahead of it waits for the frame in flight.
//! 2. A page of events is contiguous with what was asked for; a gap is `Corrupt`, an end is an empty page.
//! 3. A snapshot lives for one page, so that no reader keeps dead bytes alive.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use quick_cache::sync::Cache;

use super::digest::{self, Purpose};
use super::place::{NamespaceInfo, Place};
use super::wakeups::Wakeups;
use super::{StoredEvent, StoredHead, Watermark, rows};
use crate::graph::event::PayloadRef;
use crate::graph::ids::{Digest, FrameNumber, Hash, Incarnation, Namespace, Seq, SessionId, StepKey, TimeMs};
use crate::graph::session::{Head, KeyRow, OpenZone, StepRow, TokenRow};
use crate::storage::Malformed;
use crate::storage::heads::{LedgerRow, LineageRow, NamespaceRow, Row as _};
use crate::storage::keys::{Item, LedgerKey, RowKey};
use crate::storage::{Fault, KeyRange, Row, Scan, Snapshot, Stats, Store, Table, codec};

/// Sessions whose place is remembered.
const PLACES_MAX: usize = 16 * 1024;
/// Namespaces that are remembered.
const NAMESPACES_MAX: usize = 256;
/// How often a reader looks whether the frame in flight has become durable before it gives up.
const SETTLE_TRIES_MAX: u32 = 40_000;
/// How long it waits in between.
const SETTLE_PAUSE: std::time::Duration = std::time::Duration::from_micros(50);
/// Rows read in one go by the small scans.
const SCAN_ROWS: usize = 1_024;

/// Why a read gave nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The ledger contradicts itself.
    #[error("the ledger is damaged: {0}; run `cellaflow ledger verify` and restore from a backup")]
    Corrupt(String),
    /// The store failed.
    #[error("the store failed: {0}; see the daemon's log")]
    Fault(String),
}

impl From<Malformed> for ReadError {
    fn from(malformed: Malformed) -> Self {
        Self::Corrupt(malformed.to_string())
    }
}

impl From<Fault> for ReadError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Corrupt { .. } | Fault::UnknownFormat { .. } => Self::Corrupt(fault.to_string()),
            other => Self::Fault(other.to_string()),
        }
    }
}

/// Reads durable state; cheap to clone.
#[derive(Clone)]
pub struct Reader {
    store: Arc<dyn Store>,
    watermark: Arc<Watermark>,
    wakeups: Arc<Wakeups>,
    places: Arc<Cache<SessionId, Arc<Place>>>,
    namespaces: Arc<Cache<Namespace, Arc<NamespaceInfo>>>,
}

/// Some events of a session.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// In order; empty at the end.
    pub events: Vec<Arc<StoredEvent>>,
    /// Where the next page starts.
    pub next: Seq,
}

/// Where a list goes on: the last session of the page before.
pub type ListCursor = SessionId;

/// Some sessions of a namespace, newest first.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// Heads.
    pub heads: Vec<Arc<Head>>,
    /// For the next page; `None`: no more.
    pub next: Option<ListCursor>,
}

/// An open intent whose attempt time and grace are over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueRow {
    /// When.
    pub due: TimeMs,
    /// Session.
    pub session: SessionId,
    /// Step.
    pub step_key: StepKey,
    /// Attempt.
    pub attempt: u32,
}

/// A stored event as verification reads it: header bytes as the chain covers them.
#[derive(Clone, Debug)]
pub struct RawEvent {
    /// The event with the hash that is stored beside it.
    pub stored: StoredEvent,
    /// What the hash chain covers.
    pub header: Bytes,
}

impl Reader {
    pub(super) fn new(store: Arc<dyn Store>, watermark: Arc<Watermark>, wakeups: Arc<Wakeups>) -> Self {
        Self {
            store,
            watermark,
            wakeups,
            places: Arc::new(Cache::new(PLACES_MAX)),
            namespaces: Arc::new(Cache::new(NAMESPACES_MAX)),
        }
    }

    /// The last durable frame.
    #[must_use]
    pub fn watermark(&self) -> FrameNumber {
        self.watermark.get()
    }

    /// Sizes on disk and in memory.
    ///
    /// # Errors
    /// `Fault` if the store cannot say.
    pub fn stats(&self) -> Result<Stats, ReadError> {
        Ok(self.store.stats()?)
    }

    /// A session's head.
    ///
    /// # Errors
    /// As every read.
    pub fn head(&self, session: SessionId) -> Result<Option<Arc<Head>>, ReadError> {
        let snapshot = self.snapshot()?;
        Ok(read_head(snapshot.as_ref(), session)?.map(|stored| stored.head))
    }

    /// A head as the store has it, for decisions.
    pub(super) fn head_ahead(&self, session: SessionId) -> Result<Option<StoredHead>, ReadError> {
        read_head(self.ahead().as_ref(), session)
    }

    /// Where a session lies and under which salt; `None`: no such session.
    ///
    /// # Errors
    /// `Corrupt` if its lineage has no row.
    pub fn place(&self, session: SessionId) -> Result<Option<Arc<Place>>, ReadError> {
        if let Some(place) = self.places.get(&session) {
            return Ok(Some(place));
        }
        // A place never changes once it is written, and says nothing of the session's state: no need to wait.
        let snapshot = self.ahead();
        let Some(stored) = read_head(snapshot.as_ref(), session)? else { return Ok(None) };
        let key = LedgerKey::new(stored.segment, stored.lineage(), Item::Lineage).bytes();
        let row = snapshot
            .get(Table::Ledger, &key)?
            .ok_or_else(|| ReadError::Corrupt(format!("session {session} has no row of its lineage")))?;
        let lineage =
            LineageRow::from_bytes(&codec::open_as(codec::Format::Row, Table::Ledger, &key, &row)?)?;
        let place = Arc::new(Place {
            lineage: stored.lineage(),
            segment: stored.segment,
            salt: lineage.salt.ok_or_else(|| ReadError::Corrupt(format!("session {session} was erased")))?,
            namespace: Arc::clone(stored.namespace()),
            root: lineage.root,
        });
        self.places.insert(session, Arc::clone(&place));
        Ok(Some(place))
    }

    /// Events from `from` on, at least one if there is one, then up to `max_bytes`.
    ///
    /// # Errors
    /// `Corrupt` for a gap (2), a bad record or an unknown version.
    pub fn events(&self, session: SessionId, from: Seq, max_bytes: usize) -> Result<Page, ReadError> {
        let from = from.max(Seq(1));
        let raw = self.raw_events(session, from, max_bytes)?;
        let mut next = from;
        let mut events = Vec::with_capacity(raw.len());
        for event in raw {
            next = event.stored.event.seq.next();
            events.push(Arc::new(event.stored));
        }
        Ok(Page { events, next })
    }

    /// Events with their header bytes, for verification.
    ///
    /// # Errors
    /// As `events`.
    pub fn raw_events(
        &self,
        session: SessionId,
        from: Seq,
        max_bytes: usize,
    ) -> Result<Vec<RawEvent>, ReadError> {
        let Some(place) = self.place(session)? else { return Ok(Vec::new()) };
        let snapshot = self.snapshot()?;
        let range = KeyRange::events(place.segment, place.lineage, session, from);
        let scan = Scan { bytes_max: max_bytes, ..Scan::forward(Table::Ledger, &range) };
        let page = snapshot.scan(&scan)?;
        let mut expected = from;
        let mut raw = Vec::with_capacity(page.rows.len());
        for row in &page.rows {
            let event = decode_event(session, row)?;
            if event.stored.event.seq != expected {
                let found = event.stored.event.seq;
                return Err(ReadError::Corrupt(format!(
                    "session {session} has event {found} where {expected} belongs"
                )));
            }
            expected = expected.next();
            raw.push(event);
        }
        if raw.is_empty() {
            self.check_end(snapshot.as_ref(), session, from)?;
        }
        Ok(raw)
    }

    // 2: an empty page must be the end of the session, not a hole.
    fn check_end(&self, snapshot: &dyn Snapshot, session: SessionId, from: Seq) -> Result<(), ReadError> {
        let last = read_head(snapshot, session)?.map_or(Seq(0), |stored| stored.head.seq);
        if from <= last {
            return Err(ReadError::Corrupt(format!(
                "session {session} lacks event {from}, its head says {last}"
            )));
        }
        Ok(())
    }

    /// One event.
    ///
    /// # Errors
    /// As `events`.
    pub fn event(&self, session: SessionId, seq: Seq) -> Result<Option<Arc<StoredEvent>>, ReadError> {
        let Some(place) = self.place(session)? else { return Ok(None) };
        let key = LedgerKey::new(place.segment, place.lineage, Item::Event { session, seq }).bytes();
        let snapshot = self.snapshot()?;
        let Some(value) = snapshot.get(Table::Ledger, &key)? else { return Ok(None) };
        Ok(Some(Arc::new(decode_event(session, &Row { key, value })?.stored)))
    }

    /// The bytes of a payload stored as chunks.
    ///
    /// # Errors
    /// `Corrupt` if a chunk is missing or the size differs.
    pub fn payload(&self, session: SessionId, payload: &PayloadRef) -> Result<Bytes, ReadError> {
        let missing =
            || ReadError::Corrupt(format!("payload {} of session {session} is incomplete", payload.digest));
        let place = self.place(session)?.ok_or_else(missing)?;
        let size = usize::try_from(payload.size).map_err(|_| missing())?;
        let snapshot = self.snapshot()?;
        let mut joined = BytesMut::new();
        let mut n = 0u32;
        while joined.len() < size {
            let item = Item::Chunk { digest: payload.digest, n };
            let key = LedgerKey::new(place.segment, place.lineage, item).bytes();
            let value = snapshot.get(Table::Ledger, &key)?.ok_or_else(missing)?;
            joined.extend_from_slice(&codec::open_chunk(&key, &value)?);
            n += 1;
        }
        if joined.len() == size { Ok(joined.freeze()) } else { Err(missing()) }
    }

    /// The bytes of a payload of an event, wherever they are.
    ///
    /// # Errors
    /// As `payload`.
    pub fn bytes_of(&self, event: &StoredEvent, payload: &PayloadRef) -> Result<Bytes, ReadError> {
        match event.inline_bytes(payload) {
            Some(bytes) => Ok(bytes.clone()),
            None => self.payload(event.session, payload),
        }
    }

    /// The session that a caller's key names.
    ///
    /// # Errors
    /// As every read.
    pub fn session_by_key(
        &self,
        namespace: &NamespaceInfo,
        workflow: &str,
        key: &str,
    ) -> Result<Option<SessionId>, ReadError> {
        let digest =
            digest::keyed(&namespace.salt, Purpose::SessionKey, &[workflow.as_bytes(), key.as_bytes()]);
        let snapshot = self.snapshot()?;
        let row = read_row(snapshot.as_ref(), Table::Rows, &RowKey::SessionKey(digest).bytes())?;
        Ok(row.map(|row| KeyRow::from_bytes(&row)).transpose()?.map(|row| row.session))
    }

    /// What is recorded of a step.
    ///
    /// # Errors
    /// As every read.
    pub fn step(&self, session: SessionId, step_key: &str) -> Result<Option<StepRow>, ReadError> {
        let Some(place) = self.place(session)? else { return Ok(None) };
        let snapshot = self.snapshot()?;
        read_step(snapshot.as_ref(), &place, session, digest::step_key_hash(step_key))
    }

    /// A namespace; `None`: nothing was ever done in it.
    ///
    /// # Errors
    /// As every read.
    pub fn namespace(&self, name: &str) -> Result<Option<NamespaceInfo>, ReadError> {
        let snapshot = self.snapshot()?;
        let row = read_row(snapshot.as_ref(), Table::Rows, &RowKey::Namespace(name).bytes())?;
        Ok(row.map(|row| NamespaceRow::from_bytes(&row)).transpose()?.map(|row| rows::namespace_info(&row)))
    }

    /// A namespace that was read or created before; they never change.
    pub(super) fn namespace_cached(&self, name: &str) -> Result<Option<Arc<NamespaceInfo>>, ReadError> {
        if let Some(info) = self.namespaces.get(name) {
            return Ok(Some(info));
        }
        let row = read_row(self.ahead().as_ref(), Table::Rows, &RowKey::Namespace(name).bytes())?;
        let Some(row) = row else { return Ok(None) };
        let info = Arc::new(rows::namespace_info(&NamespaceRow::from_bytes(&row)?));
        self.namespaces.insert(Arc::clone(&info.name), Arc::clone(&info));
        Ok(Some(info))
    }

    /// All namespaces, by name.
    ///
    /// # Errors
    /// As every read.
    pub fn namespaces(&self) -> Result<Vec<NamespaceInfo>, ReadError> {
        let mut found = Vec::new();
        self.each(Table::Rows, &KeyRange::namespaces(), |row| {
            let body = codec::open_as(codec::Format::Row, Table::Rows, &row.key, &row.value)?;
            found.push(rows::namespace_info(&NamespaceRow::from_bytes(&body)?));
            Ok(())
        })?;
        Ok(found)
    }

    /// Sessions of a namespace, newest first, system session left out.
    ///
    /// # Errors
    /// As every read.
    pub fn list(
        &self,
        namespace: &str,
        before: Option<ListCursor>,
        max: usize,
    ) -> Result<ListPage, ReadError> {
        let Some(info) = self.namespace(namespace)? else { return Ok(ListPage::default()) };
        let snapshot = self.snapshot()?;
        let range = KeyRange::list(info.system);
        let after = before.map(|session| RowKey::List { system: info.system, session }.bytes());
        let scan = Scan { after: after.as_deref(), rows_max: max, ..Scan::backward(Table::Rows, &range) };
        let page = snapshot.scan(&scan)?;
        let mut heads = Vec::with_capacity(page.rows.len());
        let mut last = None;
        for row in &page.rows {
            let session = rows::listed(&row.key)?;
            last = Some(session);
            let stored = read_head(snapshot.as_ref(), session)?
                .ok_or_else(|| ReadError::Corrupt(format!("listed session {session} has no head")))?;
            if !stored.head.system {
                heads.push(stored.head);
            }
        }
        Ok(ListPage { heads, next: page.next.and(last) })
    }

    /// Sessions that have not ended, system sessions left out.
    ///
    /// # Errors
    /// As every read.
    pub fn live(&self) -> Result<Vec<SessionId>, ReadError> {
        let mut sessions = Vec::new();
        self.each(Table::Rows, &KeyRange::live(), |row| {
            sessions.push(rows::live(&row.key)?);
            Ok(())
        })?;
        Ok(sessions)
    }

    /// Open intents due at `until` or earlier, earliest first, at most `max`.
    ///
    /// # Errors
    /// As every read.
    pub fn due(&self, until: TimeMs, max: usize) -> Result<Vec<DueRow>, ReadError> {
        let snapshot = self.snapshot()?;
        let range = KeyRange::due(until);
        let page = snapshot.scan(&Scan { rows_max: max, ..Scan::forward(Table::Rows, &range) })?;
        let mut due = Vec::new();
        for row in &page.rows {
            let Some((at, session, seq)) = rows::due_intent(&row.key)? else { continue };
            let head = read_head(snapshot.as_ref(), session)?.map(|stored| stored.head);
            let intent = head.and_then(|head| head.intents.iter().find(|intent| intent.seq == seq).cloned());
            let intent = intent.ok_or_else(|| {
                ReadError::Corrupt(format!("session {session} has no intent {seq} though it is due"))
            })?;
            due.push(DueRow { due: at, session, step_key: intent.step_key, attempt: intent.attempt });
        }
        Ok(due)
    }

    /// When the next thing becomes due; `None`: nothing will.
    ///
    /// # Errors
    /// As every read.
    pub fn next_due(&self) -> Result<Option<TimeMs>, ReadError> {
        let snapshot = self.snapshot()?;
        let range = KeyRange::due_ever();
        let page = snapshot.scan(&Scan { rows_max: 1, ..Scan::forward(Table::Rows, &range) })?;
        page.rows.first().map(|row| rows::due_at(&row.key)).transpose()
    }

    /// Bytes of evidence of a zone's open attempt, and the output tokens they are worth (4 bytes each).
    ///
    /// # Errors
    /// As every read.
    pub fn evidence_total(&self, session: SessionId, zone: &OpenZone) -> Result<(u64, u64), ReadError> {
        let Some(place) = self.place(session)? else { return Ok((0, 0)) };
        let range = KeyRange::evidence(place.segment, place.lineage, session, zone.seq, zone.attempt);
        let mut bytes = 0u64;
        self.each(Table::Ledger, &range, |row| {
            bytes += codec::open_chunk(&row.key, &row.value)?.len() as u64;
            Ok(())
        })?;
        Ok((bytes, bytes.div_ceil(EVIDENCE_BYTES_PER_TOKEN)))
    }

    /// A token by the hash of its secret.
    ///
    /// # Errors
    /// As every read.
    pub fn token(&self, hash: &[u8; 32]) -> Result<Option<TokenRow>, ReadError> {
        let snapshot = self.snapshot()?;
        let key = RowKey::Token(Digest(*hash)).bytes();
        let row = read_row(snapshot.as_ref(), Table::Rows, &key)?;
        Ok(row.map(|row| TokenRow::from_bytes(&row)).transpose()?)
    }

    /// All tokens, with the hashes of their secrets.
    ///
    /// # Errors
    /// As every read.
    pub fn tokens(&self) -> Result<Vec<([u8; 32], TokenRow)>, ReadError> {
        let mut found = Vec::new();
        self.each(Table::Rows, &KeyRange::tokens(), |row| {
            let body = codec::open_as(codec::Format::Row, Table::Rows, &row.key, &row.value)?;
            found.push((rows::token_hash(&row.key)?, TokenRow::from_bytes(&body)?));
            Ok(())
        })?;
        Ok(found)
    }

    /// Resolves when the session's durable seq is greater than `after`; at once if it is already.
    pub async fn changed(&self, session: SessionId, after: Seq) {
        let mut receiver = self.wakeups.subscribe(session);
        let now = self.head(session).ok().flatten().map_or(Seq(0), |head| head.seq);
        if now > after {
            return;
        }
        // An error means that the ledger is gone; the caller's next read says so.
        let _gone = receiver.wait_for(|seq| *seq > after).await.is_err();
    }

    pub(super) fn incarnation(&self) -> Result<Option<(Incarnation, [u8; 16])>, ReadError> {
        let snapshot = self.snapshot()?;
        let row = read_row(snapshot.as_ref(), Table::Rows, &RowKey::Incarnation.bytes())?;
        Ok(row
            .map(|row| LedgerRow::from_bytes(&row))
            .transpose()?
            .map(|row| (row.incarnation, row.ledger_id)))
    }

    /// Everything that the store has, durable or not: for decisions only, whose answers wait for the watermark anyway.
    pub(super) fn ahead(&self) -> Box<dyn Snapshot + '_> {
        self.store.snapshot()
    }

    /// Durable state.
    pub(super) fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, ReadError> {
        let snapshot = self.store.snapshot();
        let frame = snapshot.position()?.frame;
        // 1: between the store's write and the watermark lie microseconds, a sync of the mark at most; a poisoned store
        // never gets there, and its process ends.
        for _ in 0..SETTLE_TRIES_MAX {
            if frame <= self.watermark.get() {
                return Ok(snapshot);
            }
            settle();
        }
        Err(ReadError::Fault(format!("frame {frame} did not become durable")))
    }

    fn each(
        &self,
        table: Table,
        range: &KeyRange,
        mut visit: impl FnMut(&Row) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let mut after: Option<Bytes> = None;
        loop {
            let snapshot = self.snapshot()?;
            let scan = Scan { after: after.as_deref(), rows_max: SCAN_ROWS, ..Scan::forward(table, range) };
            let page = snapshot.scan(&scan)?;
            page.rows.iter().try_for_each(&mut visit)?;
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "shorter than a timer's tick, and snapshots cannot cross an await"
)]
fn settle() {
    std::thread::sleep(SETTLE_PAUSE);
}

/// What a token of streamed text is worth in bytes when nothing better is known.
const EVIDENCE_BYTES_PER_TOKEN: u64 = 4;

pub(super) fn read_row(
    snapshot: &dyn Snapshot,
    table: Table,
    key: &Bytes,
) -> Result<Option<Bytes>, ReadError> {
    let Some(value) = snapshot.get(table, key)? else { return Ok(None) };
    Ok(Some(codec::open_as(codec::Format::Row, table, key, &value)?))
}

pub(super) fn read_head(
    snapshot: &dyn Snapshot,
    session: SessionId,
) -> Result<Option<StoredHead>, ReadError> {
    let row = read_row(snapshot, Table::Rows, &RowKey::Head(session).bytes())?;
    row.map(|row| rows::stored_head(&row)).transpose()
}

pub(super) fn read_step(
    snapshot: &dyn Snapshot,
    place: &Place,
    session: SessionId,
    step: [u8; 32],
) -> Result<Option<StepRow>, ReadError> {
    let item = Item::Step { session, step: Digest(step) };
    let key = LedgerKey::new(place.segment, place.lineage, item).bytes();
    let row = read_row(snapshot, Table::Ledger, &key)?;
    Ok(row.map(|row| StepRow::from_bytes(&row)).transpose()?)
}

fn decode_event(session: SessionId, row: &Row) -> Result<RawEvent, ReadError> {
    let body = codec::open_as(codec::Format::Event, Table::Ledger, &row.key, &row.value)?;
    let record = rows::open_event(&body)?;
    Ok(RawEvent {
        stored: StoredEvent {
            session,
            event: record.decoded.event,
            hash: record.hash,
            inline: record.decoded.inline,
        },
        header: record.decoded.header,
    })
}

/// The hash that a session's chain starts from.
pub const CHAIN_START: Hash = Hash([0; 32]);
