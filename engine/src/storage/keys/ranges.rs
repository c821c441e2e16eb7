//! The ranges of keys that readers and the ledger walk.

use super::parts::Writer;
use super::{Item, LEDGER_PREFIX, LedgerKey, RowKey, Segment, U64, item, row};
use crate::graph::ids::{Digest, LineageId, Seq, SessionId, TimeMs};
use crate::storage::KeyRange;

impl KeyRange {
    /// All that lies in a segment.
    pub fn segment(segment: Segment) -> Self {
        KeyRange::prefix(segment.0.to_be_bytes())
    }

    /// All that belongs to a lineage; deleting it is how a lineage goes (K3).
    pub fn lineage(segment: Segment, lineage: LineageId) -> Self {
        KeyRange::prefix(Writer::ledger(segment, lineage, None, LEDGER_PREFIX).0)
    }

    /// A session's events from `from` on.
    pub fn events(segment: Segment, lineage: LineageId, session: SessionId, from: Seq) -> Self {
        let first = LedgerKey::new(segment, lineage, Item::Event { session, seq: from });
        KeyRange::prefix(
            Writer::ledger(segment, lineage, Some(item::EVENT), LedgerKey::EVENT_BYTES).put(&session.0).0,
        )
        .starting_at(first.bytes())
    }

    /// A payload's chunks from `from` on.
    pub fn chunks(segment: Segment, lineage: LineageId, digest: Digest, from: u32) -> Self {
        let first = LedgerKey::new(segment, lineage, Item::Chunk { digest, n: from });
        KeyRange::prefix(
            Writer::ledger(segment, lineage, Some(item::CHUNK), LedgerKey::CHUNK_BYTES).put(&digest.0).0,
        )
        .starting_at(first.bytes())
    }

    /// What all attempts of a zone streamed.
    pub fn zone_evidence(segment: Segment, lineage: LineageId, session: SessionId, entry: Seq) -> Self {
        KeyRange::prefix(evidence(segment, lineage, session, entry).0)
    }

    /// What one attempt of a zone streamed.
    pub fn evidence(
        segment: Segment,
        lineage: LineageId,
        session: SessionId,
        entry: Seq,
        attempt: u32,
    ) -> Self {
        KeyRange::prefix(evidence(segment, lineage, session, entry).put(&attempt.to_be_bytes()).0)
    }

    /// What a compactor has made of a session, or of one version of its context.
    pub fn contexts(segment: Segment, lineage: LineageId, session: SessionId) -> Self {
        let prefix = Writer::ledger(segment, lineage, Some(item::CONTEXT), LedgerKey::CONTEXT_BYTES);
        KeyRange::prefix(prefix.put(&session.0).0)
    }

    /// All namespaces, by name.
    pub fn namespaces() -> Self {
        KeyRange::prefix([row::NAMESPACE])
    }

    /// All tokens.
    pub fn tokens() -> Self {
        KeyRange::prefix([row::TOKEN])
    }

    /// The versions of workflows, of all namespaces.
    pub fn workflows() -> Self {
        KeyRange::prefix([row::WORKFLOW])
    }

    /// All archive commits whose manifests are not published yet.
    pub fn commits() -> Self {
        KeyRange::prefix([row::COMMIT])
    }

    /// What is kept of lineages that the archive has to do with.
    pub fn archives() -> Self {
        KeyRange::prefix([row::ARCHIVE])
    }

    /// All segments that have something dead in them.
    pub fn segments() -> Self {
        KeyRange::prefix([row::SEGMENT])
    }

    /// All events of a lineage.
    pub fn lineage_events(segment: Segment, lineage: LineageId) -> Self {
        KeyRange::prefix(Writer::ledger(segment, lineage, Some(item::EVENT), LEDGER_PREFIX).0)
    }

    /// All heads.
    pub fn heads() -> Self {
        KeyRange::prefix([row::HEAD])
    }

    /// A namespace's sessions, oldest first; `system` is the namespace's system session.
    pub fn list(system: SessionId) -> Self {
        KeyRange::prefix(Writer::row(row::LIST, RowKey::LIST_BYTES).put(&system.0).0)
    }

    /// A namespace's sessions that have ended and are not archived, oldest first.
    pub fn ended(system: SessionId) -> Self {
        KeyRange::prefix(Writer::row(row::ENDED, RowKey::LIST_BYTES).put(&system.0).0)
    }

    /// A namespace's sessions with a label, oldest first.
    pub fn label(system: SessionId, label: [u8; 16]) -> Self {
        KeyRange::prefix(Writer::row(row::LABEL, RowKey::LABEL_BYTES).put(&system.0).put(&label).0)
    }

    /// The sessions that have not ended.
    pub fn live() -> Self {
        KeyRange::prefix([row::LIVE])
    }

    /// The sessions that were named and have not begun.
    pub fn to_start() -> Self {
        KeyRange::prefix([row::TO_START])
    }

    /// What is kept of a session's guarded steps.
    pub fn guarded(session: SessionId) -> Self {
        KeyRange::prefix(Writer::row(row::GUARDED, RowKey::GUARDED_BYTES).put(&session.0).0)
    }

    /// What is due from `from` to `until`, both included: earliest first.
    pub fn due(from: TimeMs, until: TimeMs) -> Self {
        let at = |time: u64| Writer::row(row::DUE, 1 + U64).put(&time.to_be_bytes()).0;
        let end = match until.0.checked_add(1) {
            Some(end) => at(end),
            None => KeyRange::prefix([row::DUE]).to().to_vec(),
        };
        KeyRange::new(at(from.0), end)
    }
}

fn evidence(segment: Segment, lineage: LineageId, session: SessionId, entry: Seq) -> Writer {
    Writer::ledger(segment, lineage, Some(item::EVIDENCE), LedgerKey::EVIDENCE_BYTES)
        .put(&session.0)
        .put(&entry.0.to_be_bytes())
}
