//! The frame: one group commit, sealed.
//!
//! Owns the ledger's unit of change and the hash that chains it to the one before.
//! Never knows what its rows mean.
//!
//! FR1. A frame is never empty and never larger than `FRAME_BYTES_MAX`.
//! FR2. Its hash covers number, previous hash, shard epoch and every operation in order; of a payload chunk it covers
//!      the key and the length only, because the key names the digest of the bytes.
//! FR3. A frame needs nothing beside it: applied in order to an empty store, the frames rebuild the ledger.

use bytes::Bytes;

use super::keys::LedgerKey;
use super::{Fault, KeyRange, Position, Table};
use crate::graph::ids::{FrameNumber, Hash};

/// The most bytes of keys and values in one frame: 256 MiB, so that a payload of the largest usual size fits beside a
/// full frame. The decider refuses what would pass it.
pub const FRAME_BYTES_MAX: usize = 256 * 1024 * 1024;

/// One change of a row or of a range of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes a row.
    Put {
        /// The table.
        table: Table,
        /// The row's key.
        key: Bytes,
        /// The value in its envelope.
        value: Bytes,
    },
    /// Removes a row, if it is there.
    Delete {
        /// The table.
        table: Table,
        /// The row's key.
        key: Bytes,
    },
    /// Removes all rows of a range.
    DeleteRange {
        /// The table.
        table: Table,
        /// The rows.
        range: KeyRange,
    },
}

impl Op {
    /// Writes `value`, already in its envelope, under `key`.
    pub fn put(table: Table, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Op::Put { table, key: key.into(), value: value.into() }
    }

    /// Removes the row under `key`.
    pub fn delete(table: Table, key: impl Into<Bytes>) -> Self {
        Op::Delete { table, key: key.into() }
    }

    /// Removes every row in `range`.
    pub fn delete_range(table: Table, range: KeyRange) -> Self {
        Op::DeleteRange { table, range }
    }

    /// Returns the bytes that the operation brings along.
    pub fn bytes(&self) -> usize {
        match self {
            Op::Put { key, value, .. } => key.len().saturating_add(value.len()),
            Op::Delete { key, .. } => key.len(),
            Op::DeleteRange { range, .. } => range.from().len().saturating_add(range.to().len()),
        }
    }
}

/// One sealed group of changes; it cannot be altered after its hash was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    number: FrameNumber,
    previous: Hash,
    shard_epoch: u64,
    ops: Vec<Op>,
    hash: Hash,
    bytes: usize,
}

impl Frame {
    /// Seals the frame that follows `position`.
    ///
    /// The decider seals frame n+1 on the position that frame n will leave, so it never waits for a sync.
    ///
    /// # Errors
    /// `BadFrame` if there is no operation, or more bytes than `FRAME_BYTES_MAX`.
    pub fn follow(position: &Position, shard_epoch: u64, ops: Vec<Op>) -> Result<Frame, Fault> {
        let number = FrameNumber(position.frame.0.saturating_add(1));
        Frame::seal(number, position.frame_hash, shard_epoch, ops)
    }

    /// Seals a frame with its number and the hash of the one before given.
    ///
    /// # Errors
    /// As `follow`.
    pub fn seal(number: FrameNumber, previous: Hash, shard_epoch: u64, ops: Vec<Op>) -> Result<Frame, Fault> {
        let bytes = ops.iter().map(Op::bytes).fold(0_usize, usize::saturating_add);
        let problem = if ops.is_empty() {
            "it changes nothing; commit a frame only when there is something to commit".to_owned()
        } else if bytes > FRAME_BYTES_MAX {
            format!("it holds {bytes} bytes and the limit is {FRAME_BYTES_MAX} (frame_bytes_max); split it")
        } else {
            let hash = hash(number, previous, shard_epoch, &ops);
            return Ok(Frame { number, previous, shard_epoch, ops, hash, bytes });
        };
        Err(Fault::BadFrame { frame: number.0, problem })
    }

    /// The frame's number; the first is 1.
    pub fn number(&self) -> FrameNumber {
        self.number
    }

    /// The hash of the frame before.
    pub fn previous(&self) -> Hash {
        self.previous
    }

    /// The epoch of the shard's owner that made the frame.
    pub fn shard_epoch(&self) -> u64 {
        self.shard_epoch
    }

    /// The changes, in the order in which they apply.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The frame's own hash.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The bytes of keys and values in the frame.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Bytes that stand for the operations in the hash; assigned once.
mod tag {
    pub(super) const PUT: u8 = 1;
    pub(super) const DELETE: u8 = 2;
    pub(super) const DELETE_RANGE: u8 = 3;
    pub(super) const PUT_CHUNK: u8 = 4;
}

fn hash(number: FrameNumber, previous: Hash, shard_epoch: u64, ops: &[Op]) -> Hash {
    let mut hasher = blake3::Hasher::new_derive_key("cellaflow 2026 ledger frame");
    hasher.update(&number.0.to_be_bytes());
    hasher.update(&previous.0);
    hasher.update(&shard_epoch.to_be_bytes());
    hasher.update(&length(ops.len()));
    for op in ops {
        hash_op(&mut hasher, op);
    }
    Hash(*hasher.finalize().as_bytes())
}

fn hash_op(hasher: &mut blake3::Hasher, op: &Op) {
    match op {
        Op::Put { table, key, value } if is_chunk(*table, key) => {
            hasher.update(&[tag::PUT_CHUNK, table.byte()]);
            hash_bytes(hasher, key);
            hasher.update(&length(value.len()));
        }
        Op::Put { table, key, value } => {
            hasher.update(&[tag::PUT, table.byte()]);
            hash_bytes(hasher, key);
            hash_bytes(hasher, value);
        }
        Op::Delete { table, key } => {
            hasher.update(&[tag::DELETE, table.byte()]);
            hash_bytes(hasher, key);
        }
        Op::DeleteRange { table, range } => {
            hasher.update(&[tag::DELETE_RANGE, table.byte()]);
            hash_bytes(hasher, range.from());
            hash_bytes(hasher, range.to());
        }
    }
}

fn is_chunk(table: Table, key: &[u8]) -> bool {
    table == Table::Ledger && LedgerKey::is_chunk(key)
}

/// Lengths go first, so that no two lists of operations feed the hash the same bytes.
fn hash_bytes(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&length(bytes.len()));
    hasher.update(bytes);
}

fn length(len: usize) -> [u8; 8] {
    u64::try_from(len).unwrap_or(u64::MAX).to_be_bytes()
}
