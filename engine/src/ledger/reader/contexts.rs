//! What compactors have made of sessions, as it is read.
//!
//! 1. A version and its texts are read under one snapshot: both are there or neither.

use bytes::{Bytes, BytesMut};

use super::{ReadError, Reader, read_context, read_head, read_row};
use crate::graph::context::ContextRow;
use crate::graph::ids::{Seq, SessionId};
use crate::graph::session::Head;
use crate::ledger::{place::Place, rows};
use crate::storage::contexts::{self, ContextText, ContextVersionRow};
use crate::storage::heads::Row as _;
use crate::storage::keys::{Item, LedgerKey};
use crate::storage::{KeyRange, Scan, Snapshot, Table, codec};

/// A live session with events that are not folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// Session.
    pub session: SessionId,
    /// Its last event.
    pub seq: Seq,
}

/// Some live sessions of a namespace that have events which are not folded.
#[derive(Clone, Debug, Default)]
pub struct ContextPage {
    /// Oldest first.
    pub behind: Vec<Behind>,
    /// The last session that was looked at, if there are more.
    pub next: Option<SessionId>,
}

impl Reader {
    /// How far a session is folded; `None`: not at all.
    ///
    /// # Errors
    /// As every read.
    pub fn context_row(&self, session: SessionId) -> Result<Option<ContextRow>, ReadError> {
        let Some(place) = self.place(session)? else { return Ok(None) };
        read_context(self.snapshot()?.as_ref(), &place, session)
    }

    /// The state of a session's fold, and the row that it belongs to.
    ///
    /// # Errors
    /// `Corrupt` if a piece is missing.
    pub fn context_state(&self, session: SessionId) -> Result<Option<(ContextRow, Bytes)>, ReadError> {
        let Some(place) = self.place(session)? else { return Ok(None) };
        let snapshot = self.snapshot()?;
        let Some(row) = read_context(snapshot.as_ref(), &place, session)? else { return Ok(None) };
        let state = pieces(snapshot.as_ref(), &place, (session, 0), row.state_pieces)?;
        Ok(Some((row, state)))
    }

    /// A version of a session's context; `None`: there is no such version.
    ///
    /// # Errors
    /// As every read.
    pub fn context_version(
        &self,
        session: SessionId,
        version: u32,
    ) -> Result<Option<ContextVersionRow>, ReadError> {
        let Some(place) = self.place(session)? else { return Ok(None) };
        read_version(self.snapshot()?.as_ref(), &place, (session, version))
    }

    /// A version with its texts; the texts are empty if they have been given up (1).
    ///
    /// # Errors
    /// As every read.
    pub fn context_texts(
        &self,
        session: SessionId,
        version: u32,
    ) -> Result<Option<(ContextVersionRow, Vec<ContextText>)>, ReadError> {
        let Some(place) = self.place(session)? else { return Ok(None) };
        let snapshot = self.snapshot()?;
        let at = (session, version);
        let Some(row) = read_version(snapshot.as_ref(), &place, at)? else { return Ok(None) };
        if snapshot.get(Table::Ledger, &key(&place, at, 1))?.is_none() {
            return Ok(Some((row, Vec::new())));
        }
        let texts = pieces(snapshot.as_ref(), &place, at, row.pieces)?;
        Ok(Some((row, contexts::texts_from(&texts)?)))
    }

    /// All versions of a session's context, oldest first.
    ///
    /// # Errors
    /// As every read.
    pub fn context_versions(&self, session: SessionId) -> Result<Vec<(u32, ContextVersionRow)>, ReadError> {
        let Some(row) = self.context_row(session)? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for version in 1..=row.version {
            found.extend(self.context_version(session, version)?.map(|row| (version, row)));
        }
        Ok(found)
    }

    /// Rows that a session's context takes, in bytes of keys and values.
    ///
    /// # Errors
    /// As every read.
    pub fn context_bytes(&self, session: SessionId) -> Result<usize, ReadError> {
        let Some(place) = self.place(session)? else { return Ok(0) };
        let mut bytes = 0;
        self.each(Table::Ledger, &KeyRange::contexts(place.segment, place.lineage, session), |row| {
            bytes += row.key.len() + row.value.len();
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Live sessions of a namespace with events that are not folded: `max` sessions are looked at.
    ///
    /// # Errors
    /// As every read.
    pub fn behind(
        &self,
        namespace: &str,
        after: Option<SessionId>,
        max: usize,
    ) -> Result<ContextPage, ReadError> {
        let snapshot = self.snapshot()?;
        let range = KeyRange::live();
        let after = after.map(|session| crate::storage::keys::RowKey::Live(session).bytes());
        let scan = Scan { after: after.as_deref(), rows_max: max, ..Scan::forward(Table::Rows, &range) };
        let page = snapshot.scan(&scan)?;
        let mut found = ContextPage::default();
        let mut last = None;
        for row in &page.rows {
            let session = rows::live(&row.key)?;
            last = Some(session);
            let Some(stored) = read_head(snapshot.as_ref(), session)? else { continue };
            found.behind.extend(self.lag(snapshot.as_ref(), namespace, &stored.head)?);
        }
        found.next = page.next.and(last);
        Ok(found)
    }

    fn lag(
        &self,
        snapshot: &dyn Snapshot,
        namespace: &str,
        head: &Head,
    ) -> Result<Option<Behind>, ReadError> {
        if head.system || &*head.namespace != namespace {
            return Ok(None);
        }
        let Some(place) = self.place(head.session)? else { return Ok(None) };
        let row = read_context(snapshot, &place, head.session)?;
        let folded = row.map_or(Seq(0), |row| row.watermark);
        Ok((folded < head.seq).then_some(Behind { session: head.session, seq: head.seq }))
    }
}

/// Key of a row of a version.
pub(super) fn key(place: &Place, (session, version): (SessionId, u32), n: u32) -> Bytes {
    LedgerKey::new(place.segment, place.lineage, Item::Context { session, version, n }).bytes()
}

fn read_version(
    snapshot: &dyn Snapshot,
    place: &Place,
    at: (SessionId, u32),
) -> Result<Option<ContextVersionRow>, ReadError> {
    if at.1 == 0 {
        return Ok(None);
    }
    let row = read_row(snapshot, Table::Ledger, &key(place, at, 0))?;
    Ok(row.map(|row| ContextVersionRow::from_bytes(&row)).transpose()?)
}

fn pieces(
    snapshot: &dyn Snapshot,
    place: &Place,
    at: (SessionId, u32),
    count: u32,
) -> Result<Bytes, ReadError> {
    let mut all = BytesMut::new();
    for n in 1..=count {
        let key = key(place, at, n);
        let missing = || ReadError::Corrupt(format!("piece {n} of context {} of {} is missing", at.1, at.0));
        let value = snapshot.get(Table::Ledger, &key)?.ok_or_else(missing)?;
        all.extend_from_slice(&codec::open_chunk(&key, &value)?);
    }
    Ok(all.freeze())
}
