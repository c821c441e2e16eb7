//! What the core really puts for a step, seen from below: so that raw RocksDB can be given the same puts.

use std::path::Path;
use std::sync::Arc;

use cellaflow_engine::storage::{
    Fault, Frame, KeyRange, Op, Position, Reclaimed, Snapshot, Stats, Store, Table,
};
use parking_lot::Mutex;

/// One put's sizes in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Put {
    /// Where it goes.
    pub table: Table,
    /// Of the key.
    pub key: usize,
    /// Of the value.
    pub value: usize,
}

/// A store that remembers the puts of the last frame that it passed on.
pub struct Watched {
    store: Arc<dyn Store>,
    last: Mutex<Vec<Put>>,
}

impl Watched {
    /// Watches a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Arc<Watched> {
        Arc::new(Watched { store, last: Mutex::default() })
    }

    /// The puts of the last frame; the row that says where the ledger stands is not among them, the store adds it.
    #[must_use]
    pub fn last(&self) -> Vec<Put> {
        self.last.lock().clone()
    }
}

impl Store for Watched {
    fn snapshot(&self) -> Box<dyn Snapshot + '_> {
        self.store.snapshot()
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<bytes::Bytes>, Fault> {
        self.store.get(table, key)
    }

    fn commit(&self, frame: &Frame) -> Result<(), Fault> {
        let puts = frame.ops().iter().filter_map(|op| match op {
            Op::Put { table, key, value } => Some(Put { table: *table, key: key.len(), value: value.len() }),
            Op::Delete { .. } | Op::DeleteRange { .. } => None,
        });
        *self.last.lock() = puts.collect();
        self.store.commit(frame)
    }

    fn reclaim(&self, range: &KeyRange) -> Result<Reclaimed, Fault> {
        self.store.reclaim(range)
    }

    fn compact(&self, range: &KeyRange) -> Result<Reclaimed, Fault> {
        self.store.compact(range)
    }

    fn checkpoint(&self, dir: &Path) -> Result<Position, Fault> {
        self.store.checkpoint(dir)
    }

    fn rest(&self) -> Result<(), Fault> {
        self.store.rest()
    }

    fn stats(&self) -> Result<Stats, Fault> {
        self.store.stats()
    }

    fn position(&self) -> Position {
        self.store.position()
    }
}
