//! The store on disk; the only place that names RocksDB.
//!
//! Owns the RocksDB folder: its options, its batches, its snapshots. Never decides whether a folder may be opened;
//! that is `open`.
//!
//! RO1. The write-ahead log is always on and every frame is synced; no log file is recycled, and recovery stops at the
//!      first damage (point in time), so that a torn tail is survived. A hole is noticed by the mark, not by RocksDB.
//! RO2. Both tables are flushed together (`atomic_flush`), so a lost log can never leave one table ahead of the other.
//! RO3. Recovery flushes what it replayed: whatever is readable after an open is durable, synced before or not.
//! RO4. Memory is bounded by `Settings`: one write-buffer budget and one block cache, index and filter blocks included.

mod options;

use std::path::Path;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BottommostLevelCompaction, Cache, ColumnFamily, CompactOptions, DB, DBRawIterator, FlushOptions,
    ReadOptions, WriteBatch, WriteOptions, properties,
};

use super::fault::Poison;
use super::keys::RowKey;
use super::mark::{self, Mark, MarkFile};
use super::open::Folder;
use super::range::PageBuilder;
use super::{
    Direction, Fault, Frame, KeyRange, Op, Page, Position, Reclaimed, Row, Scan, Snapshot, Stats, Store,
    Table, TableStats, codec,
};

pub use options::Settings;

/// A ledger on disk. Made by `open`.
pub struct Rocks {
    // The order of the fields is the order of closing: the folder's lock goes last.
    db: DB,
    mark: MarkFile,
    cache: Cache,
    synced: WriteOptions,
    committing: Mutex<()>,
    position: RwLock<Position>,
    poison: Poison,
    _folder: Folder,
}

impl Rocks {
    /// Opens a folder that `open` has found good, or makes a new ledger in it if it holds none.
    ///
    /// What comes up is compared with `marked` once more, before the mark is written again.
    pub(super) fn start(folder: Folder, settings: &Settings, marked: Mark) -> Result<Rocks, Fault> {
        let cache = options::cache(settings);
        let mut options = options::database(settings, &cache);
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        let tables = [(ROWS_FAMILY, options.clone()), (LEDGER_FAMILY, options::ledger(&cache))];
        let db = DB::open_cf_with_opts(&options, folder.db(), tables).map_err(engine("open the ledger"))?;
        let position = match read_position(&db)? {
            Some(position) => position,
            None => write_genesis(&db, Position::genesis(marked.ledger_id))?,
        };
        check_covers(&position, marked)?;
        let mark = MarkFile::resume(folder.dir(), Mark::of(&position))?;
        Ok(Rocks {
            db,
            mark,
            cache,
            synced: synced(),
            committing: Mutex::new(()),
            position: RwLock::new(position),
            poison: Poison::default(),
            _folder: folder,
        })
    }

    fn batch(&self, frame: &Frame, next: &Position) -> Result<WriteBatch, Fault> {
        let mut batch =
            WriteBatch::with_capacity_bytes(frame.bytes().saturating_add(64 * (frame.ops().len() + 2)));
        for op in frame.ops() {
            match op {
                Op::Put { table, key, value } => batch.put_cf(family(&self.db, *table)?, key, value),
                Op::Delete { table, key } => batch.delete_cf(family(&self.db, *table)?, key),
                Op::DeleteRange { table, range } => {
                    batch.delete_range_cf(family(&self.db, *table)?, range.from(), range.to());
                }
            }
        }
        batch.put_cf(family(&self.db, Table::Rows)?, RowKey::Position.bytes(), codec::seal_position(next));
        Ok(batch)
    }

    fn write_and_mark(&self, frame: &Frame, next: Position) -> Result<(), Fault> {
        let batch = self.batch(frame, &next)?;
        self.db.write_opt(batch, &self.synced).map_err(engine("commit a frame"))?;
        self.mark.write(next.frame)?;
        *self.position.write() = next;
        Ok(())
    }

    /// A tombstone outside of any frame: it repeats one that a frame has written.
    fn bury(&self, range: &KeyRange) -> Result<(), Fault> {
        let mut batch = WriteBatch::new();
        batch.delete_range_cf(family(&self.db, Table::Ledger)?, range.from(), range.to());
        self.db.write_opt(batch, &self.synced).map_err(engine("write a tombstone"))
    }

    /// Rewrites the files of a range without what is deleted in them.
    fn squeeze(&self, range: &KeyRange) -> Result<(), Fault> {
        let mut how = CompactOptions::default();
        how.set_exclusive_manual_compaction(false);
        how.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
        let table = family(&self.db, Table::Ledger)?;
        self.db.compact_range_cf_opt(table, Some(range.from()), Some(range.to()), &how);
        Ok(())
    }

    fn disk_bytes(&self, table: Table) -> Result<u64, Fault> {
        measure(&self.db, table, properties::TOTAL_SST_FILES_SIZE)
    }

    fn table_stats(&self, table: Table) -> Result<TableStats, Fault> {
        Ok(TableStats {
            disk_bytes: self.disk_bytes(table)?,
            live_bytes: measure(&self.db, table, properties::ESTIMATE_LIVE_DATA_SIZE)?,
            buffered_bytes: measure(&self.db, table, properties::CUR_SIZE_ALL_MEM_TABLES)?,
        })
    }
}

impl Store for Rocks {
    fn snapshot(&self) -> Box<dyn Snapshot + '_> {
        Box::new(View { db: &self.db, snapshot: self.db.snapshot(), poison: &self.poison })
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        self.poison.check()?;
        read(&self.db, table, key, &ReadOptions::default())
    }

    fn commit(&self, frame: &Frame) -> Result<(), Fault> {
        let _one_at_a_time = self.committing.lock();
        self.poison.check()?;
        let next = self.position().advance(frame)?;
        self.write_and_mark(frame, next).map_err(|fault| self.poison.set_unless_refused(fault))
    }

    fn reclaim(&self, range: &KeyRange) -> Result<Reclaimed, Fault> {
        self.poison.check()?;
        if range.is_empty() {
            return Ok(Reclaimed::default());
        }
        let table = family(&self.db, Table::Ledger)?;
        let bytes_before = self.disk_bytes(Table::Ledger)?;
        // A dropped file may have held the tombstone of rows in another file. Before: a crash in between cannot bring
        // those rows back. Again after: the first tombstone may itself have been in a file that was dropped.
        self.bury(range)?;
        self.db
            .delete_file_in_range_cf(table, range.from(), range.to())
            .map_err(engine("drop dead files"))?;
        self.bury(range)?;
        self.squeeze(range)?;
        Ok(Reclaimed { bytes_before, bytes_after: self.disk_bytes(Table::Ledger)? })
    }

    fn compact(&self, range: &KeyRange) -> Result<Reclaimed, Fault> {
        self.poison.check()?;
        let bytes_before = self.disk_bytes(Table::Ledger)?;
        self.squeeze(range)?;
        Ok(Reclaimed { bytes_before, bytes_after: self.disk_bytes(Table::Ledger)? })
    }

    fn checkpoint(&self, dir: &Path) -> Result<Position, Fault> {
        self.poison.check()?;
        let db = Folder::make_copy(dir)?;
        Checkpoint::new(&self.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(&db))
            .map_err(engine("write a checkpoint"))?;
        // The copy itself says what it holds: a commit may have got in while it was made.
        let position = inspect(&db)?.ok_or_else(|| missing_position("write a checkpoint"))?;
        mark::create(dir, Mark::of(&position))?;
        Ok(position)
    }

    fn rest(&self) -> Result<(), Fault> {
        self.poison.check()?;
        let families = [family(&self.db, Table::Rows)?, family(&self.db, Table::Ledger)?];
        self.db.flush_cfs_opt(&families, &FlushOptions::default()).map_err(engine("flush the tables"))
    }

    fn stats(&self) -> Result<Stats, Fault> {
        self.poison.check()?;
        let (rows, ledger) = (self.table_stats(Table::Rows)?, self.table_stats(Table::Ledger)?);
        let readers = |table| measure(&self.db, table, properties::ESTIMATE_TABLE_READERS_MEM);
        Ok(Stats {
            rows,
            ledger,
            memtable_bytes: rows.buffered_bytes.saturating_add(ledger.buffered_bytes),
            cache_bytes: u64::try_from(self.cache.get_usage()).unwrap_or(u64::MAX),
            reader_bytes: readers(Table::Rows)?.saturating_add(readers(Table::Ledger)?),
        })
    }

    fn position(&self) -> Position {
        *self.position.read()
    }
}

/// One consistent view; it borrows the store, which therefore cannot close under it.
struct View<'a> {
    db: &'a DB,
    snapshot: rocksdb::Snapshot<'a>,
    poison: &'a Poison,
}

impl View<'_> {
    fn options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        options
    }
}

impl Snapshot for View<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        self.poison.check()?;
        read(self.db, table, key, &self.options())
    }

    fn scan(&self, scan: &Scan<'_>) -> Result<Page, Fault> {
        self.poison.check()?;
        let rest = scan.rest();
        if rest.is_empty() {
            return Ok(Page::default());
        }
        let mut options = self.options();
        options.set_iterate_lower_bound(rest.from());
        options.set_iterate_upper_bound(rest.to());
        // A journal is read once from end to end: keep heads and indexes in the cache instead.
        options.fill_cache(scan.table == Table::Rows);
        let mut rows = self.db.raw_iterator_cf_opt(family(self.db, scan.table)?, options);
        let page = fill(scan, &mut rows);
        rows.status().map_err(engine("scan"))?;
        Ok(page)
    }

    fn position(&self) -> Result<Position, Fault> {
        let key = RowKey::Position.bytes();
        let value = self.get(Table::Rows, &key)?.ok_or_else(|| missing_position("read the position"))?;
        codec::open_position(&key, &value)
    }
}

fn fill(scan: &Scan<'_>, rows: &mut DBRawIterator<'_>) -> Page {
    match scan.direction {
        Direction::Forward => rows.seek_to_first(),
        Direction::Backward => rows.seek_to_last(),
    }
    let mut page = PageBuilder::new(scan);
    while let Some((key, value)) = rows.item() {
        if page.is_full() {
            return page.finish(true);
        }
        page.push(Row { key: Bytes::copy_from_slice(key), value: Bytes::copy_from_slice(value) });
        match scan.direction {
            Direction::Forward => rows.next(),
            Direction::Backward => rows.prev(),
        }
    }
    page.finish(false)
}

/// Reads where the ledger in `db` stands, read-only and without touching a file; `None` if it holds no position.
///
/// The log is replayed into memory as recovery would do it, and no file is written.
pub(super) fn inspect(db: &Path) -> Result<Option<Position>, Fault> {
    let settings = Settings::default();
    let cache = options::cache(&settings);
    let options = options::database(&settings, &cache);
    let tables = [(ROWS_FAMILY, options.clone()), (LEDGER_FAMILY, options::ledger(&cache))];
    let db = DB::open_cf_with_opts_for_read_only(&options, db, tables, false)
        .map_err(engine("open the ledger read-only"))?;
    read_position(&db)
}

/// The file that RocksDB has once a ledger was created.
pub(super) const CURRENT: &str = "CURRENT";

/// RocksDB's default family always exists, so it serves as a table.
const ROWS_FAMILY: &str = "default";
const LEDGER_FAMILY: &str = "ledger";

fn family(db: &DB, table: Table) -> Result<&ColumnFamily, Fault> {
    let name = match table {
        Table::Rows => ROWS_FAMILY,
        Table::Ledger => LEDGER_FAMILY,
    };
    db.cf_handle(name).ok_or_else(|| Fault::Engine {
        action: format!("find the table {table}"),
        detail: "it was not opened".to_owned(),
    })
}

fn read(db: &DB, table: Table, key: &[u8], options: &ReadOptions) -> Result<Option<Bytes>, Fault> {
    let value = db.get_pinned_cf_opt(family(db, table)?, key, options).map_err(engine("read a row"))?;
    Ok(value.map(|value| Bytes::copy_from_slice(&value)))
}

fn read_position(db: &DB) -> Result<Option<Position>, Fault> {
    let key = RowKey::Position.bytes();
    let value = read(db, Table::Rows, &key, &ReadOptions::default())?;
    value.map(|value| codec::open_position(&key, &value)).transpose()
}

fn write_genesis(db: &DB, genesis: Position) -> Result<Position, Fault> {
    db.put_cf_opt(
        family(db, Table::Rows)?,
        RowKey::Position.bytes(),
        codec::seal_position(&genesis),
        &synced(),
    )
    .map_err(engine("create the ledger"))?;
    Ok(genesis)
}

/// Holds whenever `open` let the folder pass; the mark must not be lowered if it does not.
fn check_covers(position: &Position, marked: Mark) -> Result<(), Fault> {
    if position.ledger_id == marked.ledger_id && position.frame >= marked.frame {
        return Ok(());
    }
    let (found, frame) = (position.ledger_id, position.frame);
    Err(Fault::Engine {
        action: "open the ledger".to_owned(),
        detail: format!(
            "ledger {found} came up at frame {frame}, and the mark names frame {} of ledger {}",
            marked.frame, marked.ledger_id
        ),
    })
}

fn missing_position(action: &str) -> Fault {
    Fault::Engine { action: action.to_owned(), detail: "the ledger's position is missing".to_owned() }
}

fn measure(db: &DB, table: Table, property: &properties::PropName) -> Result<u64, Fault> {
    let value = db.property_int_value_cf(family(db, table)?, property).map_err(engine("measure a table"))?;
    Ok(value.unwrap_or(0))
}

fn engine(action: &'static str) -> impl Fn(rocksdb::Error) -> Fault {
    move |error| Fault::Engine { action: action.to_owned(), detail: error.into_string() }
}

fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}
