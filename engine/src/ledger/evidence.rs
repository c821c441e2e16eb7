//! Evidence rows of open zones: where they are put, and which ones a commit must delete.
//!
//! 1. The rows of a zone entered in this process are known one by one, so that a commit deletes rows and leaves no range
//!    tombstone (each would slow every read of the table down).
//! 2. Evidence over `evidence_bytes_max` is dropped; the tokens themselves are in the worker until the zone commits.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{StoredEvent, StoredHead};
use crate::graph::command::Evidence;
use crate::graph::event::Body;
use crate::graph::ids::{Seq, SessionId, StepKey};
use crate::storage::keys::{Item, LedgerKey};
use crate::storage::{Op, Table, codec};

/// Bytes of one row: of what a zone streamed in one message.
pub const EVIDENCE_ROW_BYTES_MAX: u64 = 64 * 1024;

/// Open zone attempts that were entered in this process.
#[derive(Debug)]
pub(super) struct EvidenceLog {
    /// Most bytes kept of one attempt.
    bytes_max: u64,
    sessions: HashMap<SessionId, Vec<Attempt>>,
}

#[derive(Debug)]
struct Attempt {
    entry: Seq,
    zone_key: StepKey,
    attempt: u32,
    rows: Vec<u32>,
}

impl EvidenceLog {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, sessions: HashMap::new() }
    }

    /// The row that keeps `bytes`; `None` if it is over the limit.
    pub(super) fn keep(
        &mut self,
        stored: &StoredHead,
        evidence: &Evidence,
        entry: Seq,
        bytes: &Bytes,
    ) -> Option<Op> {
        let end = evidence.offset.checked_add(bytes.len() as u64)?;
        // A re-sent piece has the offset it had, so it overwrites itself.
        let n = u32::try_from(evidence.offset).ok().filter(|_| end <= self.bytes_max)?;
        let open =
            self.sessions.get_mut(&evidence.session).into_iter().flatten().find(|open| open.entry == entry);
        if let Some(open) = open
            && !open.rows.contains(&n)
        {
            open.rows.push(n);
        }
        let item = Item::Evidence { session: evidence.session, entry, attempt: evidence.attempt, n };
        let key = LedgerKey::new(stored.segment, stored.lineage(), item).bytes();
        Some(Op::put(Table::Ledger, key, codec::seal_chunk(bytes)))
    }

    /// The rows of a zone attempt; `None` if it was entered before this process and must be deleted as a range.
    pub(super) fn known(&self, session: SessionId, entry: Seq) -> Option<&[u32]> {
        let open = self.sessions.get(&session)?.iter().find(|open| open.entry == entry)?;
        Some(&open.rows)
    }

    /// Notes entries and forgets attempts that have ended.
    pub(super) fn follow(&mut self, events: &[Arc<StoredEvent>]) {
        for stored in events {
            if let Body::ZoneEntered { zone_key, attempt, .. } = &stored.event.body {
                self.sessions.entry(stored.session).or_default().push(Attempt {
                    entry: stored.event.seq,
                    zone_key: Arc::clone(zone_key),
                    attempt: *attempt,
                    rows: Vec::new(),
                });
            } else if let Some((zone_key, attempt)) = ended(&stored.event.body) {
                self.forget(stored.session, zone_key, attempt);
            }
        }
    }

    fn forget(&mut self, session: SessionId, zone_key: &str, attempt: u32) {
        if let Some(open) = self.sessions.get_mut(&session) {
            open.retain(|open| *open.zone_key != *zone_key || open.attempt != attempt);
            if open.is_empty() {
                self.sessions.remove(&session);
            }
        }
    }
}

fn ended(body: &Body) -> Option<(&StepKey, u32)> {
    match body {
        Body::ZoneCommitted(zone) => Some((&zone.zone_key, zone.attempt)),
        Body::ZoneFailed(zone) => Some((&zone.zone_key, zone.attempt)),
        Body::ZoneRolledBack(zone) => Some((&zone.zone_key, zone.attempt)),
        _ => None,
    }
}
