//! A session's journal: events in order, payloads, evidence.
//!
//! 1. A page is contiguous with what was asked for; a gap is `Corrupt`, an end is an empty page.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{ReadError, Reader, read_archive, read_head};
use crate::graph::event::PayloadRef;
use crate::graph::ids::{Hash, Seq, SessionId};
use crate::graph::session::OpenZone;
use crate::ledger::{Place, StoredEvent, rows};
use crate::storage::keys::{Item, LedgerKey};
use crate::storage::{KeyRange, Row, Scan, Snapshot, Table, codec};

/// Some events of a session.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// In order; empty at the end.
    pub events: Vec<Arc<StoredEvent>>,
    /// Where the next page starts.
    pub next: Seq,
}

/// A stored event as verification reads it: header bytes as the chain covers them.
#[derive(Clone, Debug)]
pub struct RawEvent {
    /// The event with the hash that is stored beside it.
    pub stored: StoredEvent,
    /// What the hash chain covers.
    pub header: Bytes,
}

/// Where an event of a session lies.
struct Owner {
    /// Who appended it.
    session: SessionId,
    place: Arc<Place>,
    /// The last event of that session which the asking one has.
    last: Seq,
}

impl Reader {
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
        let Some(owner) = self.owner(session, from)? else { return Ok(Vec::new()) };
        let Owner { session, place, last } = owner;
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
            if expected > last {
                break; // what follows is the parent's alone
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
        let Some(stored) = read_head(snapshot, session)? else { return Ok(()) };
        let last = stored.head.seq;
        if from <= last {
            // Its lineage may have been archived since its place was read.
            if let Some(row) = read_archive(snapshot, stored.lineage())?.filter(|row| row.away.is_some()) {
                if row.is_erased() {
                    return Err(ReadError::Erased);
                }
                return Err(ReadError::Archived(row.manifest.to_string()));
            }
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
        let Some(Owner { session, place, .. }) = self.owner(session, seq)? else { return Ok(None) };
        let key = LedgerKey::new(place.segment, place.lineage, Item::Event { session, seq }).bytes();
        let snapshot = self.snapshot()?;
        let Some(value) = snapshot.get(Table::Ledger, &key)? else { return Ok(None) };
        Ok(Some(Arc::new(decode_event(session, &Row { key, value })?.stored)))
    }

    /// The session that appended an event of `session`: itself, or one that it was forked from.
    fn owner(&self, session: SessionId, seq: Seq) -> Result<Option<Owner>, ReadError> {
        let (mut at, mut last) = (session, Seq(u64::MAX));
        loop {
            match (self.place(at)?, at == session) {
                (None, true) => return Ok(None),
                (None, false) => {
                    return Err(ReadError::Corrupt(format!(
                        "session {session} was forked from {at}, which is not here"
                    )));
                }
                (Some(place), _) => match place.forked_from {
                    Some((parent, cut)) if seq <= cut => {
                        at = parent;
                        last = last.min(cut);
                    }
                    Some(_) | None => return Ok(Some(Owner { session: at, place, last })),
                },
            }
        }
    }

    /// The first event that a session appended itself; a fork has its parent's before.
    ///
    /// # Errors
    /// As every read.
    pub fn first_own(&self, session: SessionId) -> Result<Seq, ReadError> {
        let from = self.place(session)?.and_then(|place| place.forked_from);
        Ok(from.map_or(Seq(1), |(_, cut)| cut.next()))
    }

    /// How many forks lie between a session and its root.
    ///
    /// # Errors
    /// As every read.
    pub fn depth(&self, session: SessionId) -> Result<usize, ReadError> {
        let mut depth = 0;
        let mut at = session;
        while let Some((parent, _)) = self.place(at)?.and_then(|place| place.forked_from) {
            depth += 1;
            at = parent;
        }
        Ok(depth)
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
}

/// What an open zone streamed, contiguous from where it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Streamed {
    /// Pieces in order.
    pub pieces: Vec<Bytes>,
    /// Offset after the last one.
    pub end: u64,
    /// True if there may be more.
    pub more: bool,
}

impl Reader {
    /// What an open zone's attempt streamed from byte `from` on, about `max_bytes` of it. Ends where something is not
    /// there: it has not become durable yet, or the zone was left meanwhile.
    ///
    /// # Errors
    /// As every read.
    pub fn streamed(
        &self,
        session: SessionId,
        zone: &OpenZone,
        from: u64,
        max_bytes: usize,
    ) -> Result<Streamed, ReadError> {
        let mut streamed = Streamed { end: from, ..Streamed::default() };
        let Some(place) = self.place(session)? else { return Ok(streamed) };
        let key = |offset: u64| {
            let n = u32::try_from(offset).unwrap_or(u32::MAX);
            let item = Item::Evidence { session, entry: zone.seq, attempt: zone.attempt, n };
            LedgerKey::new(place.segment, place.lineage, item).bytes()
        };
        let all = KeyRange::evidence(place.segment, place.lineage, session, zone.seq, zone.attempt);
        let snapshot = self.snapshot()?;
        // The row before may reach beyond `from`.
        let before = KeyRange::new(all.from(), key(from));
        let before = snapshot.scan(&Scan { rows_max: 1, ..Scan::backward(Table::Ledger, &before) })?;
        let first = before.rows.first().map_or_else(|| key(from), |row| row.key.clone());
        let range = all.starting_at(first);
        let page = snapshot.scan(&Scan { bytes_max: max_bytes, ..Scan::forward(Table::Ledger, &range) })?;
        for row in &page.rows {
            let offset = evidence_offset(row)?;
            if offset > streamed.end {
                return Ok(streamed);
            }
            let bytes = codec::open_chunk(&row.key, &row.value)?;
            let known = usize::try_from(streamed.end - offset).unwrap_or(usize::MAX);
            if known < bytes.len() {
                let piece = bytes.slice(known..);
                streamed.end += piece.len() as u64;
                streamed.pieces.push(piece);
            }
            // What is stored may be compressed: what is in memory is what counts.
            if streamed.end - from >= max_bytes as u64 {
                streamed.more = true;
                return Ok(streamed);
            }
        }
        streamed.more = page.next.is_some();
        Ok(streamed)
    }
}

fn evidence_offset(row: &Row) -> Result<u64, ReadError> {
    match LedgerKey::parse(&row.key).map(|key| key.item) {
        Ok(Item::Evidence { n, .. }) => Ok(u64::from(n)),
        other => Err(ReadError::Corrupt(format!("{other:?} lies where evidence belongs"))),
    }
}

/// What a token of streamed text is worth in bytes when nothing better is known.
const EVIDENCE_BYTES_PER_TOKEN: u64 = 4;

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
