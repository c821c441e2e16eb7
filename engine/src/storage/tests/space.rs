//! Space, copies and what the store measures of itself; on disk only.

use super::rig::{Kind, LEDGER, OnDisk, commit, commit_many, dump, noise, value};
use crate::graph::ids::{FrameNumber, LineageId, Seq, SessionId};
use crate::storage::keys::{Item, LedgerKey, Segment};
use crate::storage::{Fault, KeyRange, LedgerId, Memory, Op, Settings, Store, Table, open};

const EVENT_BYTES: usize = 64 * 1024;
const EVENTS: u64 = 32;

fn range_of(n: u8) -> KeyRange {
    KeyRange::lineage(Segment(1), LineageId([n; 16]))
}

/// Writes a lineage of 2 MiB into segment 1.
fn write_lineage(store: &dyn Store, n: u8) {
    for seq in 1..=EVENTS {
        let item = Item::Event { session: SessionId([n; 16]), seq: Seq(seq) };
        let key = LedgerKey::new(Segment(1), LineageId([n; 16]), item).bytes();
        let bytes = noise(u64::from(n) << 32 | seq, EVENT_BYTES);
        commit(store, vec![Op::put(Table::Ledger, key, value(bytes))]);
    }
}

// "Space": a live lineage in an old segment never blocks its neighbours, and itself stays whole.
#[test]
fn reclaim_gives_the_bytes_of_dead_lineages_back() {
    let kind = OnDisk::fresh();
    let store = kind.store();
    (1..=8).for_each(|n| write_lineage(store, n));
    let dead = (1..=8).filter(|n| *n != 4).map(range_of).collect::<Vec<_>>();
    commit(store, dead.iter().map(|range| Op::delete_range(Table::Ledger, range.clone())).collect());
    let rows = dump(&*store.snapshot(), Table::Ledger);
    let total = 8 * EVENTS * EVENT_BYTES as u64;
    for range in &dead {
        store.reclaim(range).unwrap();
    }
    let left = store.stats().unwrap().ledger.disk_bytes;
    assert!(left < total / 4, "{left} of {total} bytes are left of one live lineage in eight");
    assert!(rows.len() == EVENTS as usize && rows.iter().all(|row| range_of(4).contains(&row.key)));
    assert_eq!(dump(&*store.snapshot(), Table::Ledger), rows);
    let recovered = kind.killed();
    assert_eq!(dump(&*recovered.store().snapshot(), Table::Ledger), rows, "nothing dead came back");
}

// Backup: a copy opens like the original and goes its own way.
#[test]
fn a_checkpoint_opens_like_the_original() {
    let kind = OnDisk::fresh();
    commit_many(kind.store(), 10, 1000);
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("copy");
    let position = kind.store().checkpoint(&dir).unwrap();
    let rows = dump(&*kind.store().snapshot(), Table::Ledger);
    assert_eq!(position, kind.store().position());
    commit_many(kind.store(), 5, 1000);
    let copy = open(&dir, &Settings::default(), LedgerId([9; 16])).unwrap();
    assert!(!copy.created);
    assert_eq!((copy.marked, copy.store.position()), (FrameNumber(10), position));
    assert_eq!(dump(&*copy.store.snapshot(), Table::Ledger), rows);
    commit_many(&copy.store, 1, 1000);
    assert!(kind.store().checkpoint(&dir).is_err(), "a checkpoint never writes into a folder that exists");
    let refused = Memory::new(LEDGER).checkpoint(&dir).unwrap_err();
    assert!(matches!(refused, Fault::Unsupported { .. }));
}

#[test]
fn stats_follow_the_data() {
    let kind = OnDisk::fresh();
    let before = kind.store().stats().unwrap();
    (1..=8).for_each(|n| write_lineage(kind.store(), n));
    let after = kind.store().stats().unwrap();
    let total = 8 * EVENTS * EVENT_BYTES as u64;
    let held = after.ledger.disk_bytes + after.ledger.buffered_bytes;
    assert!(held > total && held < total * 3 / 2, "{held} of {total} bytes");
    assert!(after.ledger.disk_bytes > before.ledger.disk_bytes);
    // RO4: what is buffered stays near its budget, however much is written.
    let budget = Settings::default().write_buffers_bytes as u64;
    assert!(after.memtable_bytes < 2 * budget, "{} bytes buffered", after.memtable_bytes);
}

// At rest everything is kept once: in files, not in the log as well.
#[test]
fn a_store_at_rest_keeps_nothing_in_its_log() {
    let kind = OnDisk::fresh();
    write_lineage(kind.store(), 1);
    let before = kind.store().stats().unwrap().ledger;
    kind.store().rest().unwrap();
    let after = kind.store().stats().unwrap().ledger;
    assert!(before.buffered_bytes > 0, "something was in the log");
    assert!(after.buffered_bytes < before.buffered_bytes && after.disk_bytes > before.disk_bytes);
    assert!(after.disk_bytes >= EVENTS * EVENT_BYTES as u64);
}
