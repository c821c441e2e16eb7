//! The rows of a compacted context on their way in: cut and sealed before the queue, as payloads are.

use bytes::Bytes;

use super::payload::{self, Blobs};
use super::place::Place;
use crate::graph::context::ContextRow;
use crate::graph::ids::SessionId;
use crate::storage::codec;
use crate::storage::contexts::{self, ContextText, ContextVersionRow};
use crate::storage::keys::{Item, LedgerKey};

/// Puts the rows of one session's context together.
pub struct Rows<'a> {
    place: &'a Place,
    session: SessionId,
    blobs: Blobs,
}

impl<'a> Rows<'a> {
    /// Begins with none.
    #[must_use]
    pub fn new(place: &'a Place, session: SessionId, limits: &payload::Limits) -> Self {
        Self { place, session, blobs: Blobs::new(&place.salt, limits) }
    }

    /// How far the session is folded, and the state of the fold; `before`: rows that the state before takes.
    pub fn folded(&mut self, row: &mut ContextRow, state: &[u8], before: u32) {
        row.state_pieces = self.pieces(0, state);
        (row.state_pieces + 1..=before).for_each(|n| self.blobs.drop_row(self.key(0, n)));
        self.blobs.add_row(self.key(0, 0), super::rows::seal_row(row));
    }

    /// A version and its texts.
    pub fn version(&mut self, version: u32, row: &mut ContextVersionRow, texts: &[ContextText]) {
        row.pieces = self.pieces(version, &contexts::texts_to(texts));
        self.blobs.add_row(self.key(version, 0), super::rows::seal_row(row));
    }

    /// Gives up the texts of an old version; what is known of it stays.
    pub fn give_up(&mut self, version: u32, pieces: u32) {
        (1..=pieces).for_each(|n| self.blobs.drop_row(self.key(version, n)));
    }

    /// The rows.
    #[must_use]
    pub fn into_blobs(self) -> Blobs {
        self.blobs
    }

    fn pieces(&mut self, version: u32, bytes: &[u8]) -> u32 {
        let mut last = 0;
        for (n, part) in (1u32..).zip(bytes.chunks(codec::CHUNK_BYTES_MAX)) {
            self.blobs.add_row(self.key(version, n), codec::seal_chunk(part));
            last = n;
        }
        last
    }

    fn key(&self, version: u32, n: u32) -> Bytes {
        let item = Item::Context { session: self.session, version, n };
        LedgerKey::new(self.place.segment, self.place.lineage, item).bytes()
    }
}
