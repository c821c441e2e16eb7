//! RocksDB without anything around it: its defaults, every batch synced.

use std::path::Path;

use cellaflow_engine::storage::Table;
use rocksdb::{ColumnFamily, DB, IteratorMode, Options, WriteBatch, WriteOptions};

use crate::shape::Put;
use crate::values::Values;

const LEDGER: &str = "ledger";

/// A database with the engine's two tables and RocksDB's defaults.
pub struct Raw {
    db: DB,
    synced: WriteOptions,
    values: Values,
    next: u64,
}

impl Raw {
    /// Opens a new one.
    ///
    /// # Panics
    /// If the folder cannot be used.
    #[must_use]
    pub fn open(folder: &Path, value_bytes: usize) -> Raw {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        let db = DB::open_cf(&options, folder, [LEDGER]).expect("a new folder can be opened");
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        Raw { db, synced, values: Values::of(value_bytes), next: 0 }
    }

    /// Writes these puts `times` times, in one synced batch.
    ///
    /// # Panics
    /// If the database fails.
    pub fn write(&mut self, puts: &[Put], times: usize) {
        let mut batch = WriteBatch::default();
        for _ in 0..times {
            self.next += 1;
            for put in puts {
                let mut key = vec![0_u8; put.key];
                let digits = self.next.to_be_bytes();
                let at = put.key.saturating_sub(digits.len());
                key[at..].copy_from_slice(&digits[digits.len() - (put.key - at)..]);
                let value = self.values.cut();
                batch.put_cf(self.table(put.table), key, &value[..put.value.min(value.len())]);
            }
        }
        self.db.write_opt(batch, &self.synced).expect("a write");
    }

    /// Reads everything in order; returns the bytes of the values.
    ///
    /// # Panics
    /// If the database fails.
    #[must_use]
    pub fn scan(&self) -> usize {
        let rows = self.db.iterator_cf(self.table(Table::Ledger), IteratorMode::Start);
        rows.map(|row| row.expect("a row").1.len()).sum()
    }

    fn table(&self, table: Table) -> &ColumnFamily {
        let name = match table {
            Table::Rows => "default",
            Table::Ledger => LEDGER,
        };
        self.db.cf_handle(name).expect("it was opened")
    }
}
