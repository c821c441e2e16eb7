//! Rows of a lineage that is being restored, as the write path would have made them.

use bytes::Bytes;

use super::{digest, rows};
use crate::graph::ids::{Digest, Hash, LineageId, SessionId};
use crate::graph::index::IndexChange;
use crate::storage::keys::{Item, LedgerKey, Segment};

/// An event's row: its hash and its record, in their envelope.
#[must_use]
pub fn event(hash: Hash, record: &[u8]) -> Bytes {
    rows::seal_event(hash, record)
}

/// The row that a change leaves beside the events of its lineage; `None`: it leaves none there.
#[must_use]
pub fn beside(
    place: (Segment, LineageId),
    session: SessionId,
    change: IndexChange,
) -> Option<(Bytes, Bytes)> {
    let at = |item| LedgerKey::new(place.0, place.1, item).bytes();
    match change {
        IndexChange::Step { key, row } => {
            let step = Digest(digest::step_key_hash(&key));
            Some((at(Item::Step { session, step }), rows::seal_row(&row)))
        }
        IndexChange::Signal { id, row } => {
            let id = digest::signal_id_hash(&id);
            Some((at(Item::SignalId { session, id }), rows::seal_row(&row)))
        }
        // Idempotency keys and what is known of their steps lie beside the lineage: archiving left them.
        IndexChange::Guard { .. }
        | IndexChange::GuardOutcome { .. }
        | IndexChange::KeysEnded { .. }
        | IndexChange::Key { .. }
        | IndexChange::LivePut
        | IndexChange::LiveDelete
        | IndexChange::ListPut
        | IndexChange::DuePut(_)
        | IndexChange::DueDelete(_)
        | IndexChange::Budget { .. }
        | IndexChange::EvidenceDelete { .. }
        | IndexChange::StartPut { .. }
        | IndexChange::StartDelete { .. }
        | IndexChange::LabelPut { .. }
        | IndexChange::LabelDelete { .. }
        | IndexChange::Archive { .. }
        | IndexChange::Commit { .. }
        | IndexChange::Stub { .. }
        | IndexChange::Forget(_)
        | IndexChange::Vanish { .. }
        | IndexChange::Leave { .. }
        | IndexChange::Return(_)
        | IndexChange::Dead { .. }
        | IndexChange::Workflow { .. }
        | IndexChange::TokenPut { .. }
        | IndexChange::TokenRevoked { .. } => None,
    }
}
