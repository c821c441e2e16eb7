//! The seam between the ledger and whatever keeps its bytes.
//!
//! Owns the key space, the envelope of stored values, the frame, durability and recovery at start.
//! Never knows what an event means, never decides, never looks at a payload.
//!
//! S1. `Store::commit` is the only way to change state; it returns only when the frame is synced and marked.
//! S2. A frame is applied whole or not at all, and only if it continues the ledger (number, previous hash, shard epoch).
//! S3. After a failed commit every later call fails; recovery at the next start is the only repair.
//! S4. A snapshot sees one state, whatever is committed meanwhile; a page is bounded in rows and bytes.
//! S5. The frames of a ledger, applied in order to an empty store, rebuild it.
//! S6. A ledger that lost an acknowledged frame is refused at start, by number, and not one of its files is touched.
//! S7. Nothing outside this folder knows whether a frame went to a local log or to a replicated one.

mod fault;
mod fields;
mod frame;
mod mark;
mod memory;
mod open;
mod range;
mod rocks;

pub mod archives;
mod budgets;
pub mod codec;
pub mod contexts;
pub mod events;
pub mod faulty;
pub mod guards;
pub mod heads;
pub mod keys;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;

use bytes::Bytes;

use crate::graph::ids::{FrameNumber, Hash};

pub use fault::Fault;
pub use fields::Malformed;
pub use frame::{FRAME_BYTES_MAX, Frame, Op};
pub use memory::Memory;
pub use open::{AcceptedLoss, Loss, Manifest, OpenError, Opened, accept_loss, backup, open, restore};
pub use range::{Direction, KeyRange, Page, Row, Scan};
pub use rocks::{Rocks, Settings};

/// Keeps a ledger; the one on disk is `Rocks`, the one for tests `Memory`.
pub trait Store: Send + Sync + 'static {
    /// Takes a consistent view of all that is committed now; cheap, and it blocks nobody.
    ///
    /// A snapshot keeps dead bytes alive: hold it for one page, not for a whole stream.
    fn snapshot(&self) -> Box<dyn Snapshot + '_>;

    /// Reads one stored value, envelope included, as of now.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Fault>;

    /// Applies one frame: synced, and the durable mark written, before it returns (S1).
    ///
    /// # Errors
    /// `OutOfOrder` if the frame does not continue the ledger (nothing is written, the store stays usable); any other
    /// fault leaves the outcome unknown and poisons the store (S3).
    fn commit(&self, frame: &Frame) -> Result<(), Fault>;

    /// Gives the space of a dead range of `Table::Ledger` back to the file system; idempotent, safe at any time, slow.
    ///
    /// The range must have been deleted by a committed frame, and nothing may ever be written under it again.
    fn reclaim(&self, range: &KeyRange) -> Result<Reclaimed, Fault>;

    /// Gives the space of what is deleted in a range of `Table::Ledger` back, and keeps what lives; idempotent, slow.
    fn compact(&self, range: &KeyRange) -> Result<Reclaimed, Fault>;

    /// Writes a copy that can be opened like the original into `dir`, which must not exist, and returns its position.
    fn checkpoint(&self, dir: &Path) -> Result<Position, Fault>;

    /// Puts what is still in the log into files, so that a store at rest keeps everything once; before a graceful stop.
    fn rest(&self) -> Result<(), Fault>;

    /// Measures what the store takes on disk and in memory.
    fn stats(&self) -> Result<Stats, Fault>;

    /// Returns where the ledger stands: the last frame that `commit` returned for.
    fn position(&self) -> Position;
}

/// One consistent view of a store.
pub trait Snapshot: Send + Sync {
    /// Reads one stored value, envelope included.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Fault>;

    /// Reads one page; `Page::next` continues it.
    fn scan(&self, scan: &Scan<'_>) -> Result<Page, Fault>;

    /// Returns the position that this view was taken at; it may be ahead of `Store::position` by the frame in flight.
    fn position(&self) -> Result<Position, Fault>;
}

/// A fixed family of keys; each costs memory, so there are two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Heads, indexes and other point rows.
    Rows,
    /// Everything that belongs to a lineage and goes when it goes.
    Ledger,
}

impl Table {
    /// All tables, in the order of their bytes.
    pub const ALL: [Table; 2] = [Table::Rows, Table::Ledger];

    /// The byte that stands for the table in a frame's hash; assigned once.
    pub(crate) const fn byte(self) -> u8 {
        match self {
            Table::Rows => 1,
            Table::Ledger => 2,
        }
    }

    /// The table's name in metrics, errors and the storage engine.
    pub const fn name(self) -> &'static str {
        match self {
            Table::Rows => "rows",
            Table::Ledger => "ledger",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Names one ledger for life; minted when it is created.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LedgerId(pub [u8; 16]);

impl fmt::Display for LedgerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for LedgerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LedgerId({self})")
    }
}

/// Where a ledger stands: the last frame applied to it. Kept in a row of its own, in the same batch as the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The ledger.
    pub ledger_id: LedgerId,
    /// The last frame's number; 0 before the first.
    pub frame: FrameNumber,
    /// The last frame's hash; before the first, one that only this ledger has.
    pub frame_hash: Hash,
    /// The epoch of the shard's owner that wrote the last frame; never goes back.
    pub shard_epoch: u64,
}

impl Position {
    /// Returns the position before the first frame; its hash binds the chain to the ledger.
    pub fn genesis(ledger_id: LedgerId) -> Self {
        let hash = blake3::derive_key("cellaflow 2026 ledger genesis", &ledger_id.0);
        Position { ledger_id, frame: FrameNumber(0), frame_hash: Hash(hash), shard_epoch: 0 }
    }

    /// Returns the position after `frame`, or says why the frame does not follow (S2).
    pub fn advance(&self, frame: &Frame) -> Result<Position, Fault> {
        let problem = if frame.number().0.checked_sub(1) != Some(self.frame.0) {
            "its number is not the next one"
        } else if frame.previous() != self.frame_hash {
            "it names another previous frame"
        } else if frame.shard_epoch() < self.shard_epoch {
            "its shard epoch is older"
        } else {
            return Ok(Position {
                ledger_id: self.ledger_id,
                frame: frame.number(),
                frame_hash: frame.hash(),
                shard_epoch: frame.shard_epoch(),
            });
        };
        Err(Fault::OutOfOrder { frame: frame.number().0, position: self.frame.0, problem })
    }
}

/// What `Store::reclaim` gave back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Bytes that the range's table took on disk before.
    pub bytes_before: u64,
    /// Bytes that it takes now.
    pub bytes_after: u64,
}

/// What a store takes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// `Table::Rows`.
    pub rows: TableStats,
    /// `Table::Ledger`.
    pub ledger: TableStats,
    /// Memory in write buffers.
    pub memtable_bytes: u64,
    /// Memory in the block cache.
    pub cache_bytes: u64,
    /// Memory in open table readers outside of the block cache.
    pub reader_bytes: u64,
}

/// What one table takes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableStats {
    /// Bytes in files, dead rows included.
    pub disk_bytes: u64,
    /// Bytes of rows that are not overwritten or deleted; an estimate.
    pub live_bytes: u64,
    /// Bytes not yet in a file (in the log and the write buffer).
    pub buffered_bytes: u64,
}
