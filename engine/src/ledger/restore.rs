//! A new life for a ledger that was restored from a backup.
//!
//! 1. It is one frame: the incarnation's row is replaced and nothing else. Sessions say in their heads under which
//!    incarnation they last began or were released; those of another one wait (`graph::hold`).

use crate::clock::Clock;
use crate::graph::ids::{Incarnation, TimeMs};
use crate::ids::Mint;
use crate::ledger::rows;
use crate::storage::heads::LedgerRow;
use crate::storage::keys::RowKey;
use crate::storage::{Fault, Frame, Op, Store, Table};

/// Gives the ledger in `store` a new incarnation; nobody may have it open otherwise.
///
/// # Errors
/// `Fault` if it cannot be committed.
pub fn new_incarnation(store: &dyn Store, clock: &dyn Clock, mint: &Mint) -> Result<Incarnation, Fault> {
    let position = store.position();
    let incarnation = mint.incarnation();
    let row = LedgerRow { ledger_id: position.ledger_id.0, incarnation, created: TimeMs(clock.wall_ms()) };
    let op = Op::put(Table::Rows, RowKey::Incarnation.bytes(), rows::seal_row(&row));
    let frame = Frame::follow(&position, position.shard_epoch, vec![op])?;
    store.commit(&frame)?;
    Ok(incarnation)
}
