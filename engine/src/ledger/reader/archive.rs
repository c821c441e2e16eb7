//! What the archive reads: which lineages are cold, what lies in one, and what the ledger keeps of those that are away.
//!
//! 1. A lineage's sessions are found in its own rows, so none can be missing; each is found by one seek.
//! 2. Pages are bounded in bytes; nothing of a lineage is held longer than a page.

use std::sync::Arc;

use bytes::Bytes;

use super::{ReadError, Reader, read_archive, read_head, read_row};
use crate::graph::archive::{ArchiveRow, CommitRow, StubRow};
use crate::graph::event::{Body, Event, PayloadRef};
use crate::graph::ids::{ClaimId, Digest, Hash, LineageId, Seq, SessionId};
use crate::graph::session::Head;
use crate::ledger::{StoredHead, rows};
use crate::storage::archives::SegmentRow;
use crate::storage::heads::{LineageRow, Row as _};
use crate::storage::keys::{Item, LedgerKey, RowKey, Segment};
use crate::storage::{KeyRange, Reclaimed, Scan, Snapshot, Table, codec};

/// A stored event as the archive keeps it.
#[derive(Clone, Debug)]
pub struct StoredRecord {
    /// Its place.
    pub seq: Seq,
    /// What it says.
    pub event: Event,
    /// Of the chain up to and including it.
    pub hash: Hash,
    /// What the chain covers.
    pub header: Bytes,
    /// Inline payloads, joined.
    pub payloads: Bytes,
}

/// A lineage's own row.
#[derive(Clone, Debug)]
pub struct LineageInfo {
    /// Where it lies.
    pub segment: Segment,
    /// Of its digests.
    pub salt: Option<[u8; 32]>,
    /// Its root.
    pub root: SessionId,
    /// Its namespace.
    pub namespace: Arc<str>,
}

/// What the ledger keeps of some lineages that the archive has to do with.
#[derive(Clone, Debug)]
pub struct ArchivePage {
    /// The rows.
    pub rows: Vec<(LineageId, ArchiveRow)>,
    /// Where to go on; `None`: no more.
    pub next: Option<LineageId>,
}

impl Reader {
    /// Sessions of a namespace, oldest first, that were made after `after`: at most `max`, and where to go on.
    ///
    /// # Errors
    /// As every read.
    pub fn oldest(
        &self,
        system: SessionId,
        after: Option<SessionId>,
        max: usize,
    ) -> Result<(Vec<Arc<Head>>, Option<SessionId>), ReadError> {
        let after = after.map(|session| RowKey::List { system, session }.bytes());
        self.heads_of(&KeyRange::list(system), after, max)
    }

    /// The same of sessions that have ended and are not archived.
    ///
    /// # Errors
    /// As every read.
    pub fn ended(
        &self,
        system: SessionId,
        after: Option<SessionId>,
        max: usize,
    ) -> Result<(Vec<Arc<Head>>, Option<SessionId>), ReadError> {
        let after = after.map(|session| RowKey::Ended { system, session }.bytes());
        self.heads_of(&KeyRange::ended(system), after, max)
    }

    fn heads_of(
        &self,
        range: &KeyRange,
        after: Option<Bytes>,
        max: usize,
    ) -> Result<(Vec<Arc<Head>>, Option<SessionId>), ReadError> {
        let snapshot = self.snapshot()?;
        let scan = Scan { after: after.as_deref(), rows_max: max, ..Scan::forward(Table::Rows, range) };
        let page = snapshot.scan(&scan)?;
        let mut heads = Vec::with_capacity(page.rows.len());
        let mut last = None;
        for row in &page.rows {
            let session = rows::listed(&row.key)?;
            last = Some(session);
            heads.extend(read_head(snapshot.as_ref(), session)?.map(|stored| stored.head));
        }
        Ok((heads, page.next.and(last)))
    }

    /// What the ledger keeps of a lineage that the archive has to do with.
    ///
    /// # Errors
    /// As every read.
    pub fn archive_row(&self, lineage: LineageId) -> Result<Option<ArchiveRow>, ReadError> {
        read_archive(self.snapshot()?.as_ref(), lineage)
    }

    /// What the ledger keeps of lineages after `after`: at most `max`, and where to go on.
    ///
    /// # Errors
    /// As every read.
    pub fn archive_rows(&self, after: Option<LineageId>, max: usize) -> Result<ArchivePage, ReadError> {
        let snapshot = self.snapshot()?;
        let range = KeyRange::archives();
        let after = after.map(|lineage| RowKey::Archive(lineage).bytes());
        let scan = Scan { after: after.as_deref(), rows_max: max, ..Scan::forward(Table::Rows, &range) };
        let page = snapshot.scan(&scan)?;
        let mut found = Vec::with_capacity(page.rows.len());
        for row in &page.rows {
            let body = codec::open_as(codec::Format::Row, Table::Rows, &row.key, &row.value)?;
            match RowKey::parse(&row.key) {
                Ok(RowKey::Archive(lineage)) => found.push((lineage, ArchiveRow::from_bytes(&body)?)),
                other => return Err(ReadError::Corrupt(format!("{other:?} lies among archived lineages"))),
            }
        }
        let last = found.last().map(|(lineage, _)| *lineage);
        Ok(ArchivePage { rows: found, next: page.next.and(last) })
    }

    /// The caller's key that a session was started with, wherever it is kept; `None`: none, or it was erased.
    ///
    /// # Errors
    /// As every read.
    pub fn key_of(&self, head: &Head) -> Result<Option<String>, ReadError> {
        let first = head.forked.as_ref().map_or(Seq(1), |forked| forked.from.seq.next());
        let key = match self.event(head.session, first) {
            Ok(Some(first)) => match &first.event.body {
                Body::SessionStarted(started) => match &started.key {
                    Some(key) => self.bytes_of(&first, key)?,
                    None => Bytes::new(),
                },
                _ => return Err(ReadError::Corrupt(format!("session {} does not begin", head.session))),
            },
            Ok(None) | Err(ReadError::Erased) => Bytes::new(),
            Err(ReadError::Archived(_)) => self.stub(head.session)?.map(|stub| stub.key).unwrap_or_default(),
            Err(error) => return Err(error),
        };
        Ok(Some(String::from_utf8_lossy(&key).into_owned()).filter(|key| !key.is_empty()))
    }

    /// Rewrites what a dead lineage left in files that others still need.
    ///
    /// # Errors
    /// As every read.
    pub fn squeeze_lineage(&self, segment: Segment, lineage: LineageId) -> Result<(), ReadError> {
        self.store.compact(&KeyRange::lineage(segment, lineage))?;
        Ok(())
    }

    /// What is left of an archived session beside its head.
    ///
    /// # Errors
    /// As every read.
    pub fn stub(&self, session: SessionId) -> Result<Option<StubRow>, ReadError> {
        let snapshot = self.snapshot()?;
        let row = read_row(snapshot.as_ref(), Table::Rows, &RowKey::Stub(session).bytes())?;
        Ok(row.map(|row| StubRow::from_bytes(&row)).transpose()?)
    }

    /// A lineage's own row; `None`: it is not in the ledger.
    ///
    /// # Errors
    /// As every read.
    pub fn lineage_info(&self, lineage: LineageId) -> Result<Option<LineageInfo>, ReadError> {
        let snapshot = self.snapshot()?;
        let Some(segment) = locate(snapshot.as_ref(), lineage)? else { return Ok(None) };
        let key = LedgerKey::new(segment, lineage, Item::Lineage).bytes();
        let row = read_row(snapshot.as_ref(), Table::Ledger, &key)?;
        let Some(row) = row.map(|row| LineageRow::from_bytes(&row)).transpose()? else { return Ok(None) };
        Ok(Some(LineageInfo { segment, salt: row.salt, root: row.root, namespace: row.namespace }))
    }

    /// The segment that a lineage lies in, or lay in last.
    ///
    /// # Errors
    /// As every read.
    pub fn segment_of(&self, lineage: LineageId) -> Result<Option<Segment>, ReadError> {
        locate(self.snapshot()?.as_ref(), lineage)
    }

    /// The heads of all sessions that have events in a lineage's range, oldest first (1).
    ///
    /// # Errors
    /// `Corrupt` for events without a head.
    pub fn lineage_sessions(
        &self,
        segment: Segment,
        lineage: LineageId,
    ) -> Result<Vec<Arc<Head>>, ReadError> {
        let mut found = Vec::new();
        let mut range = KeyRange::lineage_events(segment, lineage);
        loop {
            let snapshot = self.snapshot()?;
            let page = snapshot.scan(&Scan { rows_max: 1, ..Scan::forward(Table::Ledger, &range) })?;
            let Some(row) = page.rows.first() else { return Ok(found) };
            let session = match LedgerKey::parse(&row.key).map(|key| key.item) {
                Ok(Item::Event { session, .. }) => session,
                other => return Err(ReadError::Corrupt(format!("{other:?} lies among events"))),
            };
            let stored: Option<StoredHead> = read_head(snapshot.as_ref(), session)?;
            let stored =
                stored.ok_or_else(|| ReadError::Corrupt(format!("session {session} has no head")))?;
            found.push(stored.head);
            let last = LedgerKey::new(segment, lineage, Item::Event { session, seq: Seq(u64::MAX) });
            range = range.starting_at(last.bytes());
        }
    }

    /// Stored events of a session from `from` on, about `max_bytes` of them; empty at the end.
    ///
    /// # Errors
    /// `Corrupt` for a gap or a bad record.
    pub fn stored_records(
        &self,
        place: (Segment, LineageId),
        session: SessionId,
        from: Seq,
        max_bytes: usize,
    ) -> Result<Vec<StoredRecord>, ReadError> {
        let snapshot = self.snapshot()?;
        let range = KeyRange::events(place.0, place.1, session, from);
        let page = snapshot.scan(&Scan { bytes_max: max_bytes, ..Scan::forward(Table::Ledger, &range) })?;
        let mut expected = from;
        let mut records = Vec::with_capacity(page.rows.len());
        for row in &page.rows {
            let body = codec::open_as(codec::Format::Event, Table::Ledger, &row.key, &row.value)?;
            let record = rows::open_event(&body)?;
            let seq = record.decoded.event.seq;
            if seq != expected {
                let problem = format!("session {session} has event {seq} where {expected} belongs");
                return Err(ReadError::Corrupt(problem));
            }
            expected = expected.next();
            let inline: Vec<u8> = record.decoded.inline.concat();
            records.push(StoredRecord {
                seq,
                event: record.decoded.event,
                hash: record.hash,
                header: record.decoded.header,
                payloads: inline.into(),
            });
        }
        Ok(records)
    }

    /// One chunk of a payload, as the caller sent it.
    ///
    /// # Errors
    /// As every read.
    pub fn chunk(
        &self,
        place: (Segment, LineageId),
        digest: Digest,
        n: u32,
    ) -> Result<Option<Bytes>, ReadError> {
        let key = LedgerKey::new(place.0, place.1, Item::Chunk { digest, n }).bytes();
        let value = self.snapshot()?.get(Table::Ledger, &key)?;
        Ok(value.map(|value| codec::open_chunk(&key, &value)).transpose()?)
    }

    /// The digest of a payload that lies in chunks, chunk by chunk; `None`: some are missing.
    ///
    /// # Errors
    /// As every read.
    pub fn digest_of_chunks(
        &self,
        place: (Segment, LineageId),
        payload: &PayloadRef,
        salt: &[u8; 32],
    ) -> Result<Option<Digest>, ReadError> {
        let mut hasher = blake3::Hasher::new_keyed(salt);
        let snapshot = self.snapshot()?;
        let (mut n, mut size) = (0, 0);
        while size < payload.size {
            let key = LedgerKey::new(place.0, place.1, Item::Chunk { digest: payload.digest, n }).bytes();
            let Some(value) = snapshot.get(Table::Ledger, &key)? else { return Ok(None) };
            let data = codec::open_chunk(&key, &value)?;
            hasher.update(&data);
            size += data.len() as u64;
            n += 1;
        }
        Ok((size == payload.size).then(|| Digest(*hasher.finalize().as_bytes())))
    }

    /// Bytes of keys and values that a lineage has in the ledger.
    ///
    /// # Errors
    /// As every read.
    pub fn lineage_bytes(&self, segment: Segment, lineage: LineageId) -> Result<u64, ReadError> {
        let mut bytes = 0;
        self.each(Table::Ledger, &KeyRange::lineage(segment, lineage), |row| {
            bytes += (row.key.len() + row.value.len()) as u64;
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Gives the space of a closed segment back, if nothing in it lives or at least half of it is dead; `None`: it waits.
    ///
    /// # Errors
    /// As every read.
    pub fn reclaim(&self, segment: Segment, dead_bytes: u64) -> Result<Option<Reclaimed>, ReadError> {
        let range = KeyRange::segment(segment);
        let mut live_bytes = 0;
        let mut after: Option<Bytes> = None;
        loop {
            let snapshot = self.snapshot()?;
            let scan = Scan { after: after.as_deref(), ..Scan::forward(Table::Ledger, &range) };
            let page = snapshot.scan(&scan)?;
            live_bytes += page.rows.iter().map(|row| (row.key.len() + row.value.len()) as u64).sum::<u64>();
            if live_bytes > dead_bytes {
                return Ok(None);
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let whole = live_bytes == 0;
        Ok(Some(if whole { self.store.reclaim(&range)? } else { self.store.compact(&range)? }))
    }

    /// Archive commits whose manifests are not published yet.
    ///
    /// # Errors
    /// As every read.
    pub fn unpublished(&self) -> Result<Vec<(ClaimId, CommitRow)>, ReadError> {
        let mut found = Vec::new();
        self.each(Table::Rows, &KeyRange::commits(), |row| {
            let body = codec::open_as(codec::Format::Row, Table::Rows, &row.key, &row.value)?;
            match RowKey::parse(&row.key) {
                Ok(RowKey::Commit(claim)) => found.push((claim, CommitRow::from_bytes(&body)?)),
                other => return Err(ReadError::Corrupt(format!("{other:?} lies among commits"))),
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Segments that have something dead in them, and how many bytes.
    ///
    /// # Errors
    /// As every read.
    pub fn dead_segments(&self) -> Result<Vec<(Segment, u64)>, ReadError> {
        let mut found = Vec::new();
        self.each(Table::Rows, &KeyRange::segments(), |row| {
            let body = codec::open_as(codec::Format::Row, Table::Rows, &row.key, &row.value)?;
            match RowKey::parse(&row.key) {
                Ok(RowKey::Segment(segment)) => {
                    found.push((segment, SegmentRow::from_bytes(&body)?.dead_bytes))
                }
                other => return Err(ReadError::Corrupt(format!("{other:?} lies among segments"))),
            }
            Ok(())
        })?;
        Ok(found)
    }
}

fn locate(snapshot: &dyn Snapshot, lineage: LineageId) -> Result<Option<Segment>, ReadError> {
    let Some(row) = read_row(snapshot, Table::Rows, &RowKey::Locator(lineage).bytes())? else {
        return Ok(None);
    };
    let number = <[u8; 4]>::try_from(row.as_ref())
        .map_err(|_| ReadError::Corrupt(format!("the locator of lineage {lineage} is no segment")))?;
    Ok(Some(Segment(u32::from_be_bytes(number))))
}
