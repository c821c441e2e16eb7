//! The store in memory: the same promises, with a disk that tests can pull the plug of.
//!
//! Owns two states: the live one, which reads see, and the durable one, which is the frames synced so far. Never used
//! by the daemon.
//!
//! ME1. A frame that failed at `Point::Sync` is live and not durable; one that failed at `Point::Report` is both.
//! ME2. `crash` gives back what was durable, rebuilt from the frames alone (S5).

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::codec;
use super::fault::Poison;
use super::faulty::{Gate, Point};
use super::keys::RowKey;
use super::range::PageBuilder;
use super::{
    Direction, Fault, Frame, KeyRange, LedgerId, Op, Page, Position, Reclaimed, Row, Scan, Snapshot, Stats,
    Store, Table, TableStats,
};

/// A ledger in memory; `Gate` decides what its disk does.
pub struct Memory {
    gate: Arc<Gate>,
    poison: Poison,
    /// One commit at a time; it may be held while reads go on.
    committing: Mutex<()>,
    state: Mutex<State>,
}

struct State {
    /// What reads see; shared with the snapshots taken since the last change.
    live: Arc<Tables>,
    /// What `commit` returned for.
    position: Position,
    /// What survives a crash, in order.
    durable: Vec<Change>,
}

/// A change that survives a crash.
#[derive(Clone)]
enum Change {
    Frame(Frame),
    Reclaim(KeyRange),
}

#[derive(Clone, Default)]
struct Tables {
    rows: BTreeMap<Bytes, Bytes>,
    ledger: BTreeMap<Bytes, Bytes>,
}

impl Memory {
    /// Makes an empty ledger whose disk never fails.
    pub fn new(ledger_id: LedgerId) -> Self {
        Memory::with_gate(ledger_id, Gate::new())
    }

    /// Makes an empty ledger whose commits pass through `gate`.
    pub fn with_gate(ledger_id: LedgerId, gate: Arc<Gate>) -> Self {
        let position = Position::genesis(ledger_id);
        let mut tables = Tables::default();
        tables.rows.insert(RowKey::Position.bytes(), codec::seal_position(&position));
        let state = State { live: Arc::new(tables), position, durable: Vec::new() };
        Memory { gate, poison: Poison::default(), committing: Mutex::new(()), state: Mutex::new(state) }
    }

    /// Returns the store as recovery would find it after a power loss now; this one can go on beside it.
    ///
    /// # Errors
    /// `OutOfOrder` if the durable frames do not form a chain, which only a defect of this store could cause.
    pub fn crash(&self) -> Result<Memory, Fault> {
        let durable = self.state.lock().durable.clone();
        let recovered = Memory::new(self.position().ledger_id);
        for change in durable {
            match change {
                Change::Frame(frame) => recovered.commit(&frame)?,
                Change::Reclaim(range) => recovered.reclaim(&range).map(drop)?,
            }
        }
        Ok(recovered)
    }

    /// Returns the frames that survive a crash, in order.
    pub fn durable_frames(&self) -> Vec<Frame> {
        let state = self.state.lock();
        let frame = |change: &Change| match change {
            Change::Frame(frame) => Some(frame.clone()),
            Change::Reclaim(_) => None,
        };
        state.durable.iter().filter_map(frame).collect()
    }

    fn pass_and_commit(&self, frame: &Frame) -> Result<(), Fault> {
        let next = self.position().advance(frame)?;
        self.gate.pass(Point::Write)?;
        Arc::make_mut(&mut self.state.lock().live).apply(frame, &next);
        self.gate.pass(Point::Sync)?;
        self.state.lock().durable.push(Change::Frame(frame.clone()));
        self.gate.pass(Point::Report)?;
        self.state.lock().position = next;
        Ok(())
    }

    fn view(&self) -> View<'_> {
        View { tables: Arc::clone(&self.state.lock().live), poison: &self.poison }
    }
}

impl Store for Memory {
    fn snapshot(&self) -> Box<dyn Snapshot + '_> {
        Box::new(self.view())
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        self.view().get(table, key)
    }

    fn commit(&self, frame: &Frame) -> Result<(), Fault> {
        let _one_at_a_time = self.committing.lock();
        self.poison.check()?;
        self.pass_and_commit(frame).map_err(|fault| self.poison.set_unless_refused(fault))
    }

    fn reclaim(&self, range: &KeyRange) -> Result<Reclaimed, Fault> {
        self.poison.check()?;
        let mut state = self.state.lock();
        let bytes_before = state.live.bytes(Table::Ledger);
        Arc::make_mut(&mut state.live).delete_range(Table::Ledger, range);
        state.durable.push(Change::Reclaim(range.clone()));
        Ok(Reclaimed { bytes_before, bytes_after: state.live.bytes(Table::Ledger) })
    }

    fn compact(&self, _range: &KeyRange) -> Result<Reclaimed, Fault> {
        self.poison.check()?;
        let bytes = self.state.lock().live.bytes(Table::Ledger);
        Ok(Reclaimed { bytes_before: bytes, bytes_after: bytes })
    }

    fn checkpoint(&self, _dir: &Path) -> Result<Position, Fault> {
        Err(Fault::Unsupported { action: "a checkpoint", store: "memory" })
    }

    fn rest(&self) -> Result<(), Fault> {
        self.poison.check()
    }

    fn stats(&self) -> Result<Stats, Fault> {
        self.poison.check()?;
        let tables = self.view().tables;
        let of = |table| {
            let bytes = tables.bytes(table);
            TableStats { disk_bytes: 0, live_bytes: bytes, buffered_bytes: bytes }
        };
        let (rows, ledger) = (of(Table::Rows), of(Table::Ledger));
        let memtable_bytes = rows.buffered_bytes.saturating_add(ledger.buffered_bytes);
        Ok(Stats { rows, ledger, memtable_bytes, ..Stats::default() })
    }

    fn position(&self) -> Position {
        self.state.lock().position
    }
}

impl Tables {
    fn get(&self, table: Table) -> &BTreeMap<Bytes, Bytes> {
        match table {
            Table::Rows => &self.rows,
            Table::Ledger => &self.ledger,
        }
    }

    fn get_mut(&mut self, table: Table) -> &mut BTreeMap<Bytes, Bytes> {
        match table {
            Table::Rows => &mut self.rows,
            Table::Ledger => &mut self.ledger,
        }
    }

    fn apply(&mut self, frame: &Frame, next: &Position) {
        for op in frame.ops() {
            match op {
                Op::Put { table, key, value } => {
                    drop(self.get_mut(*table).insert(key.clone(), value.clone()))
                }
                Op::Delete { table, key } => drop(self.get_mut(*table).remove(key)),
                Op::DeleteRange { table, range } => self.delete_range(*table, range),
            }
        }
        self.rows.insert(RowKey::Position.bytes(), codec::seal_position(next));
    }

    fn delete_range(&mut self, table: Table, range: &KeyRange) {
        let rows = self.get_mut(table);
        let mut tail = rows.split_off(range.from());
        rows.append(&mut tail.split_off(range.to()));
    }

    fn bytes(&self, table: Table) -> u64 {
        let bytes =
            self.get(table).iter().map(|(key, value)| key.len().saturating_add(value.len())).sum::<usize>();
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

struct View<'a> {
    tables: Arc<Tables>,
    poison: &'a Poison,
}

impl Snapshot for View<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        self.poison.check()?;
        Ok(self.tables.get(table).get(key).cloned())
    }

    fn scan(&self, scan: &Scan<'_>) -> Result<Page, Fault> {
        self.poison.check()?;
        let rest = scan.rest();
        if rest.is_empty() {
            return Ok(Page::default());
        }
        let bounds = (Bound::Included(rest.from()), Bound::Excluded(rest.to()));
        let rows = self.tables.get(scan.table).range::<[u8], _>(bounds);
        Ok(match scan.direction {
            Direction::Forward => fill(scan, rows),
            Direction::Backward => fill(scan, rows.rev()),
        })
    }

    fn position(&self) -> Result<Position, Fault> {
        let key = RowKey::Position.bytes();
        let value = self
            .get(Table::Rows, &key)?
            .ok_or_else(|| Fault::corrupt(Table::Rows, &key, "the ledger's position is missing"))?;
        codec::open_position(&key, &value)
    }
}

fn fill<'a>(scan: &Scan<'_>, rows: impl Iterator<Item = (&'a Bytes, &'a Bytes)>) -> Page {
    let mut page = PageBuilder::new(scan);
    for (key, value) in rows {
        if page.is_full() {
            return page.finish(true);
        }
        page.push(Row { key: key.clone(), value: value.clone() });
    }
    page.finish(false)
}
