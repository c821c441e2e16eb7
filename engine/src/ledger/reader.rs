//! The read path: pages of durable state.
//!
//! 1. What a reader sees is at or below the watermark (L5): a snapshot that is ahead of it waits for the frame in flight.
//! 2. A page of events is contiguous with what was asked for; a gap is `Corrupt`, an end is an empty page.
//! 3. A snapshot lives for one page, so that no reader keeps dead bytes alive.

mod archive;
mod contexts;
mod indexes;
mod journal;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use quick_cache::sync::Cache;

use super::digest::{self, Purpose};
use super::place::{NamespaceInfo, Place};
use super::wakeups::{Wake, Wakeups};
use super::{StoredHead, Watermark, rows};
use crate::graph::archive::ArchiveRow;
use crate::graph::budget::BudgetRow;
use crate::graph::context::ContextRow;
use crate::graph::ids::{Digest, Epoch, FrameNumber, Incarnation, LineageId, Namespace, Seq, SessionId};
use crate::graph::session::{GuardRow, Head, KeyRow, StepRow};
use crate::storage::archives::SegmentRow;
use crate::storage::heads::{LedgerRow, LineageRow, NamespaceRow, Row as _};
use crate::storage::keys::{Item, LedgerKey, RowKey, Segment};
use crate::storage::{self, Malformed, Manifest};
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

pub use archive::StoredRecord;
pub use contexts::ContextPage;
pub use indexes::{Among, DuePage, DueRow, ListCursor, ListPage};
pub use journal::{CHAIN_START, Page, RawEvent, Streamed};

/// Why a read gave nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The ledger contradicts itself.
    #[error("the ledger is damaged: {0}; run `cellaflow ledger verify` and restore from a backup")]
    Corrupt(String),
    /// Its events are in the archive; the text names the manifest.
    #[error("the session is archived (manifest {0}); restore it with `cellaflow-compactor restore`")]
    Archived(String),
    /// It was erased: its payloads are gone for good.
    #[error("{}", crate::graph::archive::ERASED)]
    Erased,
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

/// What becomes durable of one session, for somebody who waits for it.
#[derive(Debug)]
pub struct Changes(tokio::sync::watch::Receiver<Wake>);

// An error of the receiver means that the ledger is gone; the caller's next read says so.
impl Changes {
    /// Forgets what has become durable so far: the caller is about to read it.
    pub fn seen(&mut self) {
        self.0.mark_unchanged();
    }

    /// Resolves when there is an event after `after`, or has been one since `seen`.
    pub async fn event_after(&mut self, after: Seq) {
        let _gone = self.0.wait_for(|wake| wake.seq > after).await.is_err();
    }

    /// Resolves when there is an event, or an open zone has streamed something, since `seen`.
    pub async fn anything(&mut self) {
        let _gone = self.0.changed().await.is_err();
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

    /// Writes a copy of the ledger into `dir`, which must not exist; says what it holds and its size in bytes.
    ///
    /// # Errors
    /// `Fault`; nothing is left of the copy then.
    pub fn backup(&self, dir: &Path, now_ms: u64) -> Result<(Manifest, u64), ReadError> {
        Ok(storage::backup(self.store.as_ref(), dir, now_ms)?)
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
        // A place says nothing of the session's state: no need to wait.
        let snapshot = self.ahead();
        let Some(stored) = read_head(snapshot.as_ref(), session)? else { return Ok(None) };
        if stored.head.status.is_terminal()
            && read_archive(snapshot.as_ref(), stored.lineage())?.is_some_and(|row| row.is_erased())
        {
            return Err(ReadError::Erased);
        }
        let key = LedgerKey::new(stored.segment, stored.lineage(), Item::Lineage).bytes();
        let row = match snapshot.get(Table::Ledger, &key)? {
            Some(row) => row,
            None => return Err(self.gone(snapshot.as_ref(), &stored)),
        };
        let lineage =
            LineageRow::from_bytes(&codec::open_as(codec::Format::Row, Table::Ledger, &key, &row)?)?;
        let place = Arc::new(Place {
            lineage: stored.lineage(),
            segment: stored.segment,
            salt: lineage.salt.ok_or_else(|| ReadError::Corrupt(format!("session {session} was erased")))?,
            namespace: Arc::clone(stored.namespace()),
            root: lineage.root,
            forked_from: stored.head.forked.as_ref().map(|forked| (forked.from.parent, forked.from.seq)),
            stubs_effects: stored.head.stubs_effects(),
        });
        // What has ended may be archived and restored elsewhere: it is looked up each time.
        if !stored.head.status.is_terminal() {
            self.places.insert(session, Arc::clone(&place));
        }
        Ok(Some(place))
    }

    /// Forgets where a session lies: its lineage is about to be elsewhere.
    pub(super) fn forget(&self, session: SessionId) {
        self.places.remove(&session);
    }

    /// Why nothing of a session's lineage is where its head says.
    fn gone(&self, snapshot: &dyn Snapshot, stored: &StoredHead) -> ReadError {
        match read_archive(snapshot, stored.lineage()) {
            Ok(Some(row)) if row.away.is_some() => ReadError::Archived(row.manifest.to_string()),
            Ok(_) => {
                let session = stored.head.session;
                ReadError::Corrupt(format!("session {session} has no row of its lineage"))
            }
            Err(error) => error,
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
        Ok(self.key_row(self.key_digest(namespace, workflow, key))?.map(|row| row.session))
    }

    /// The digest that a caller's key is kept under.
    #[must_use]
    pub fn key_digest(&self, namespace: &NamespaceInfo, workflow: &str, key: &str) -> Digest {
        digest::keyed(&namespace.salt, Purpose::SessionKey, &[workflow.as_bytes(), key.as_bytes()])
    }

    /// What is recorded of a caller's key.
    ///
    /// # Errors
    /// As every read.
    pub fn key_row(&self, digest: Digest) -> Result<Option<KeyRow>, ReadError> {
        let snapshot = self.snapshot()?;
        let row = read_row(snapshot.as_ref(), Table::Rows, &RowKey::SessionKey(digest).bytes())?;
        Ok(row.map(|row| KeyRow::from_bytes(&row)).transpose()?)
    }

    /// What is recorded of a step.
    ///
    /// # Errors
    /// As every read.
    pub fn step(&self, session: SessionId, step_key: &str) -> Result<Option<StepRow>, ReadError> {
        let snapshot = self.snapshot()?;
        self.step_row(snapshot.as_ref(), session, digest::step_key_hash(step_key))
    }

    /// The row of a step: the session's own, or the one it has from the sessions it was forked from.
    pub(super) fn step_row(
        &self,
        snapshot: &dyn Snapshot,
        session: SessionId,
        step: [u8; 32],
    ) -> Result<Option<StepRow>, ReadError> {
        let (mut at, mut last) = (session, None::<Seq>);
        while let Some(place) = self.place(at)? {
            let row = read_step(snapshot, &place, at, step)?;
            match (row, last, place.forked_from) {
                (Some(row), None, _) => return Ok(Some(row)),
                // Without an outcome at the cut, the fork has a row of its own.
                (Some(row), Some(last), _) => {
                    let inherited = StepRow { epoch: Epoch(0), ..row };
                    return Ok(Some(inherited).filter(|row| row.seq <= last));
                }
                (None, _, Some((parent, cut))) => {
                    at = parent;
                    last = Some(last.map_or(cut, |last| last.min(cut)));
                }
                (None, _, None) => return Ok(None),
            }
        }
        Ok(None)
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

    /// Resolves when the session's durable seq is greater than `after`; at once if it is already.
    pub async fn changed(&self, session: SessionId, after: Seq) {
        let mut changes = self.changes(session);
        let now = self.head(session).ok().flatten().map_or(Seq(0), |head| head.seq);
        if now <= after {
            changes.event_after(after).await;
        }
    }

    /// Watches a session; what becomes durable from now on is seen.
    #[must_use]
    pub fn changes(&self, session: SessionId) -> Changes {
        Changes(self.wakeups.subscribe(session))
    }

    /// What the ledger keeps of a lineage that the archive has to do with, as the store has it, for decisions.
    pub(super) fn archive_ahead(&self, lineage: LineageId) -> Result<Option<ArchiveRow>, ReadError> {
        read_archive(self.ahead().as_ref(), lineage)
    }

    /// Dead bytes of a segment, as the store has it, for decisions.
    pub(super) fn dead_bytes_ahead(&self, segment: Segment) -> Result<u64, ReadError> {
        let row = read_row(self.ahead().as_ref(), Table::Rows, &RowKey::Segment(segment).bytes())?;
        Ok(row.map(|row| SegmentRow::from_bytes(&row)).transpose()?.unwrap_or_default().dead_bytes)
    }

    /// Who owns an idempotency key, as the store has it, for decisions.
    pub(super) fn guard_ahead(&self, digest: &Digest) -> Result<Option<GuardRow>, ReadError> {
        let row = read_row(self.ahead().as_ref(), Table::Rows, &RowKey::Guard(*digest).bytes())?;
        Ok(row.map(|row| GuardRow::from_bytes(&row)).transpose()?)
    }

    /// What is recorded of a caller's key, as the store has it, for decisions.
    pub(super) fn key_ahead(&self, digest: &Digest) -> Result<Option<KeyRow>, ReadError> {
        let row = read_row(self.ahead().as_ref(), Table::Rows, &RowKey::SessionKey(*digest).bytes())?;
        Ok(row.map(|row| KeyRow::from_bytes(&row)).transpose()?)
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

pub(super) fn read_archive(
    snapshot: &dyn Snapshot,
    lineage: LineageId,
) -> Result<Option<ArchiveRow>, ReadError> {
    let row = read_row(snapshot, Table::Rows, &RowKey::Archive(lineage).bytes())?;
    Ok(row.map(|row| ArchiveRow::from_bytes(&row)).transpose()?)
}

pub(super) fn read_context(
    snapshot: &dyn Snapshot,
    place: &Place,
    session: SessionId,
) -> Result<Option<ContextRow>, ReadError> {
    let item = Item::Context { session, version: 0, n: 0 };
    let key = LedgerKey::new(place.segment, place.lineage, item).bytes();
    let row = read_row(snapshot, Table::Ledger, &key)?;
    Ok(row.map(|row| ContextRow::from_bytes(&row)).transpose()?)
}

pub(super) fn read_budget(snapshot: &dyn Snapshot, owner: SessionId) -> Result<Option<BudgetRow>, ReadError> {
    let row = read_row(snapshot, Table::Rows, &RowKey::Budget(owner).bytes())?;
    Ok(row.map(|row| BudgetRow::from_bytes(&row)).transpose()?)
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
